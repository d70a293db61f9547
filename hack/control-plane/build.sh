#!/usr/bin/env bash
# Builds the control plane that the integration tests and `carbon-scheduler demo --real` run on: etcd, kube-apiserver,
# kube-controller-manager, kube-scheduler, kubectl, kwok and kubeconform, from the Go module proxy, pinned by go.sum; and
# oracle, kube-scheduler's plugins as a program that judges one pod, for the parity tests; and e2e-scheduling.test, the
# end-to-end tests of kube-scheduler. With --e2e also e2e.test, upstream's end-to-end suite as a whole (3 minutes more).
# A binary is built again only when its module's go.mod, go.sum or Go files changed. Usage: build.sh [--e2e] [TARGET_DIR],
# or build.sh --check, which builds nothing and says whether it could.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

export GOTOOLCHAIN=local # never fetch another Go behind the user's back
if ! command -v go >/dev/null; then
  echo "control plane: no 'go' on PATH; it is built with Go 1.26 or newer (https://go.dev/dl)" >&2
  exit 2
fi
go=$(cd / && go env GOVERSION)
if ! [[ $go =~ ^go([0-9]+)\.([0-9]+) ]] || ((BASH_REMATCH[1] * 1000 + BASH_REMATCH[2] < 1026)); then
  echo "control plane: $(command -v go) is $go; it is built with Go 1.26 or newer (https://go.dev/dl)" >&2
  exit 2
fi
[ "${1:-}" != --check ] || exit 0
whole_suite=no
[ "${1:-}" != --e2e ] || { whole_suite=yes; shift; }

out=${1:-$here/../../.cache/control-plane/bin}
mkdir -p "$out"
out=$(cd "$out" && pwd)
exec 9>"$out/.lock"
flock 9 # two builds at once would only take turns at starving each other
export CGO_ENABLED=0 GOFLAGS="${GOFLAGS:-} -trimpath"

build() { # build MODULE_DIR PACKAGE BINARY [LDFLAGS]; a BINARY named *.test holds the package's tests
  local stamp="$out/.$3.stamp" want
  want=$(cat "$here/$1/go.mod" "$here/$1/go.sum" $(case $2 in .*) echo "$here/$1/$2"/*.go ;; esac) | sha256sum | cut -d' ' -f1)
  if [ -x "$out/$3" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$want" ]; then return; fi
  echo "control plane: building $3 ..." >&2
  (cd "$here/$1" && go $(case $3 in *.test) echo test -c ;; *) echo build ;; esac) -ldflags "-s -w ${4:-}" -o "$out/$3.new" "$2")
  mv "$out/$3.new" "$out/$3"; echo "$want" > "$stamp"
}

k8s=$(cd "$here/kubernetes" && go list -m -f '{{.Version}}' k8s.io/kubernetes)
v=k8s.io/component-base/version
minor=${k8s#v1.}; minor=${minor%%.*}
ld="-X $v.gitVersion=$k8s -X $v.gitMajor=1 -X $v.gitMinor=$minor -X k8s.io/client-go/pkg/version.gitVersion=$k8s"
build etcd go.etcd.io/etcd/server/v3 etcd
for name in kube-apiserver kube-controller-manager kube-scheduler kubectl; do build kubernetes "k8s.io/kubernetes/cmd/$name" "$name" "$ld"; done
build kubernetes ./oracle oracle "$ld"
build e2e . e2e-scheduling.test "$ld"
[ $whole_suite = no ] || build e2e k8s.io/kubernetes/test/e2e e2e.test "$ld"
build kwok sigs.k8s.io/kwok/cmd/kwok kwok
build kubeconform github.com/yannh/kubeconform/cmd/kubeconform kubeconform
echo "$out"
