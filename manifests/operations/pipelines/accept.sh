#!/bin/sh
# Accepts an image from inside Cloud Build or Cloud Deploy, where the metadata server says who we are. Variables:
#   TARGET    environment, name or path
#   CONTEXT   its [cluster] context, gke_PROJECT_LOCATION_CLUSTER
#   ENDPOINT  DNS endpoint of the cluster's API server: its certificate is one that everybody trusts
#   IMAGE     NAME@sha256:DIGEST; unset: what Cloud Deploy has just deployed
set -eu
: "${TARGET:?}" "${CONTEXT:?}" "${ENDPOINT:?}"
cd "$(dirname "$0")/../../.."
umask 077
private=$(mktemp -d)

python - > "$private/token" << 'PYTHON'
import google.auth
import google.auth.transport.requests

credentials, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
credentials.refresh(google.auth.transport.requests.Request())
print(credentials.token)
PYTHON

cat > "$private/kubeconfig" << YAML
apiVersion: v1
kind: Config
current-context: $CONTEXT
clusters: [{name: target, cluster: {server: "https://$ENDPOINT"}}]
users: [{name: suite, user: {tokenFile: "$private/token"}}]
contexts: [{name: $CONTEXT, context: {cluster: target, user: suite}}]
YAML
export KUBECONFIG="$private/kubeconfig" HOME="$private" # the pipeline's own home is not ours to write to

deployed='jsonpath={.spec.template.spec.containers[?(@.name=="backstage")].image}'
: "${IMAGE:=$(kubectl -n backstage get deployment backstage --output="$deployed")}"
umask 022 # what is found is for others to read
exec pytest "--env=$TARGET" "--image=$IMAGE" --report=results/run -p no:cacheprovider
