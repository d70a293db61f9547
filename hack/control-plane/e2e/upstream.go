//go:build tools

// Keeps what Kubernetes' own end-to-end suite needs in go.mod and go.sum: `go mod tidy` looks at imports.
package e2e

import _ "k8s.io/kubernetes/test/e2e"
