// Package manifests pins modules whose files the lab applies, though it builds nothing of them.
package manifests

import _ "sigs.k8s.io/gateway-api/apis/v1" // config/crd/standard
