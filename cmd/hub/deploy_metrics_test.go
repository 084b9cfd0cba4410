package main

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/bytedance/sonic"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// served is the metrics of a hub to which something of everything has happened.
func served(t *testing.T) map[string]*dto.MetricFamily {
	t.Helper()
	spokes, admin, _ := startHub(t)
	address := strings.TrimSuffix(strings.TrimPrefix(spokes, "ws://"), "/ws")
	require.NoError(t, handshake(address))
	require.NoError(t, publish(t.Context(), []string{"--admin", admin, "--quiet", "tick:1"}))
	connected(t, admin, 0) // its end is counted
	families := scrape(t, admin)
	_, certFile, keyFile := newCertificate(t, t.TempDir(), "hub")
	_, admin, _ = startHub(t, "--tls-cert", certFile, "--tls-key", keyFile, "--engine=embedded", "--cluster-listen=127.0.0.1:0",
		"--auth-jwks=http://127.0.0.1:1/keys")
	for name, family := range scrape(t, admin) {
		if known := families[name]; known != nil {
			known.Metric = append(known.Metric, family.Metric...)
		} else {
			families[name] = family
		}
	}
	return families
}

func scrape(t *testing.T, admin string) map[string]*dto.MetricFamily {
	t.Helper()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(metrics(t, admin)))
	require.NoError(t, err)
	return families
}

// checkExpression looks whether the hub serves what a PromQL expression names: metrics, and values of
// labels that only the hub knows.
func checkExpression(families map[string]*dto.MetricFamily, expr string) error {
	selectors := regexp.MustCompile(`\b((?:hub|go|process)_[a-z0-9_]+)(?:\{([^}]*)\})?`).FindAllStringSubmatch(expr, -1)
	if len(selectors) == 0 && !strings.HasPrefix(expr, "up{") {
		return fmt.Errorf("%s: no metric", expr)
	}
	for _, s := range selectors {
		name := s[1]
		if families[name] == nil {
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				if base, cut := strings.CutSuffix(name, suffix); cut && families[base].GetType() == dto.MetricType_HISTOGRAM {
					name = base
				}
			}
		}
		family := families[name]
		if family == nil {
			return fmt.Errorf("%s: the hub serves no %s", expr, s[1])
		}
		for _, m := range regexp.MustCompile(`(\w+)=~?"([^"]*)"`).FindAllStringSubmatch(s[2], -1) {
			if m[1] == "job" || m[1] == "instance" {
				continue
			}
			for value := range strings.SplitSeq(m[2], "|") {
				if !hasLabel(family, m[1], value) {
					return fmt.Errorf("%s: no %s has %s=%q", expr, name, m[1], value)
				}
			}
		}
	}
	return nil
}

func hasLabel(family *dto.MetricFamily, name, value string) bool {
	return slices.ContainsFunc(family.GetMetric(), func(m *dto.Metric) bool {
		return slices.ContainsFunc(m.GetLabel(), func(l *dto.LabelPair) bool { return l.GetName() == name && l.GetValue() == value })
	})
}

// expressions returns what stands at "expr" anywhere in a document.
func expressions(doc any) (found []string) {
	switch doc := doc.(type) {
	case map[string]any:
		if expr, ok := doc["expr"].(string); ok {
			found = append(found, expr)
		}
		for _, key := range slices.Sorted(maps.Keys(doc)) {
			found = append(found, expressions(doc[key])...)
		}
	case []any:
		for _, e := range doc {
			found = append(found, expressions(e)...)
		}
	}
	return found
}

func TestDashboardAndAlertsNameMetricsThatTheHubServes(t *testing.T) {
	families := served(t)
	var dashboard, rules any
	text, err := os.ReadFile("../../deploy/grafana.json")
	require.NoError(t, err)
	require.NoError(t, sonic.Unmarshal(text, &dashboard))
	text, err = os.ReadFile("../../deploy/alerts.yaml")
	require.NoError(t, err)
	require.NoError(t, yaml.Unmarshal(text, &rules))
	all := strings.Join(append(expressions(dashboard), expressions(rules)...), "\n")
	require.Greater(t, strings.Count(all, "\n"), 40)
	for expr := range strings.SplitSeq(all, "\n") {
		require.NoError(t, checkExpression(families, expr))
	}
	require.Error(t, checkExpression(families, "rate(hub_no_such_total[5m])"))
	require.Error(t, checkExpression(families, `hub_limit{limit="no_such"}`))
	require.Error(t, checkExpression(families, "hub_spokes_bucket"))
	require.Error(t, checkExpression(families, "1 > 0"))
}

// The alerts count on the job's name, and the targets are the instances that deploy/hub.env speaks of.
func TestPrometheusScrapesTheHubsOfDeploy(t *testing.T) {
	pages := documents(t, "deploy/*.yaml", "deploy/hub.env")
	var c struct {
		RuleFiles []string `yaml:"rule_files"`
		Jobs      []struct {
			Name    string                       `yaml:"job_name"`
			Targets []struct{ Targets []string } `yaml:"static_configs"`
		} `yaml:"scrape_configs"`
	}
	require.NoError(t, yaml.Unmarshal([]byte(pages["deploy/prometheus.yaml"]), &c))
	require.Contains(t, pages, "deploy/"+c.RuleFiles[0])
	require.Len(t, c.Jobs, 1)
	require.Contains(t, pages["deploy/alerts.yaml"], `up{job="`+c.Jobs[0].Name+`"}`)
	require.Len(t, c.Jobs[0].Targets[0].Targets, 2)
	for _, target := range c.Jobs[0].Targets[0].Targets {
		require.Contains(t, pages["deploy/hub.env"], "HUB_ADMIN="+target+"\n")
	}
}

func TestEveryAlertIsTestedAndExplained(t *testing.T) {
	rules, err := os.ReadFile("../../deploy/alerts.yaml")
	require.NoError(t, err)
	tests, err := os.ReadFile("../../deploy/alerts_test.yaml")
	require.NoError(t, err)
	guide, err := os.ReadFile("../../docs/operating.md")
	require.NoError(t, err)
	names := regexp.MustCompile(`alert: (\w+)`).FindAllSubmatch(rules, -1)
	require.NotEmpty(t, names)
	for _, name := range names {
		require.Regexp(t, `alertname: `+string(name[1])+`\n\s+exp_alerts:`, string(tests), "a case in which it fires")
		require.Contains(t, string(guide), "`"+string(name[1])+"`")
	}
}
