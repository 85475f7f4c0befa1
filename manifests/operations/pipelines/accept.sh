#!/bin/sh
# Accepts an image from inside Cloud Build or Cloud Deploy; credentials come from the metadata server. Variables:
#   TARGET    name or path of the environment
#   CONTEXT   the environment's [cluster] context, gke_PROJECT_LOCATION_CLUSTER
#   ENDPOINT  DNS endpoint of the cluster's API server, whose certificate is publicly trusted
#   IMAGE     NAME@sha256:DIGEST; if unset, the image of the live Deployment
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
export KUBECONFIG="$private/kubeconfig" HOME="$private" # the pipeline's home may not be writable

deployed='jsonpath={.spec.template.spec.containers[?(@.name=="backstage")].image}'
: "${IMAGE:=$(kubectl -n backstage get deployment backstage --output="$deployed")}"
umask 022 # the next build step reads the results as another user
exec pytest "--env=$TARGET" "--image=$IMAGE" --report=results/run -p no:cacheprovider
