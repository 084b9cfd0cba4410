package interop

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"sigs.k8s.io/yaml"
)

// TestManifestsHaveFieldsThatKubernetesKnows reads what is in deploy/ as an API server does: a field that is misspelt or
// stands in the wrong place is a mistake.
func TestManifestsHaveFieldsThatKubernetesKnows(t *testing.T) {
	kinds := map[string]func() any{
		"apps/v1 Deployment":            func() any { return new(appsv1.Deployment) },
		"v1 Service":                    func() any { return new(corev1.Service) },
		"policy/v1 PodDisruptionBudget": func() any { return new(policyv1.PodDisruptionBudget) },
		"networking.k8s.io/v1 Ingress":  func() any { return new(networkingv1.Ingress) },
	}
	files, err := filepath.Glob("../deploy/kubernetes*.yaml")
	require.NoError(t, err)
	seen := map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, part := range regexp.MustCompile(`(?m)^---$`).Split(string(text), -1) {
			var is struct{ APIVersion, Kind string }
			require.NoError(t, yaml.Unmarshal([]byte(part), &is))
			what := is.APIVersion + " " + is.Kind
			require.Contains(t, kinds, what)
			require.NoError(t, yaml.UnmarshalStrict([]byte(part), kinds[what]()), "%s: %s", file, what)
			seen[what] = true
		}
	}
	require.Len(t, seen, len(kinds))
	require.Error(t, yaml.UnmarshalStrict([]byte("spec: {maxUnavailble: 1}"), new(policyv1.PodDisruptionBudget)))
}
