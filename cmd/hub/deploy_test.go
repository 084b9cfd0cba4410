package main

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// What is in deploy has to fit the hub there is. scripts/deploy-check runs what can be run of it.

// flagName is the flag whose twin in the environment that is.
func flagName(variable string) string {
	return strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(variable, envPrefix), "_", "-"))
}

// stopping is how long a hub with default flags may take from SIGTERM to its end.
func stopping() time.Duration {
	var c config
	serveFlags(&c)
	return c.drainTimeout + c.closeTimeout + adminShutdown
}

// object is as much of a Kubernetes object as is looked at here.
type object struct {
	Kind     string
	Metadata struct {
		Name        string
		Annotations map[string]string
	}
	Spec struct {
		Replicas       int
		Selector       map[string]any
		MaxUnavailable int    `yaml:"maxUnavailable"`
		ClusterIP      string `yaml:"clusterIP"`
		Ports          []struct {
			Name       string
			TargetPort string `yaml:"targetPort"`
		}
		TLS   []struct{ Hosts []string }
		Rules []struct {
			Host string
			HTTP struct{ Paths []ingressPath }
		}
		Template struct {
			Metadata struct{ Labels map[string]string }
			Spec     struct {
				Grace              int  `yaml:"terminationGracePeriodSeconds"`
				EnableServiceLinks bool `yaml:"enableServiceLinks"`
				Containers         []container
			}
		}
	}
}

type container struct {
	Args  []string
	Ports []struct {
		Name          string
		ContainerPort int `yaml:"containerPort"`
	}
	Env       []struct{ Name, Value string }
	Startup   probe `yaml:"startupProbe"`
	Liveness  probe `yaml:"livenessProbe"`
	Readiness probe `yaml:"readinessProbe"`
	Resources struct{ Limits map[string]string }
	Lifecycle struct {
		PreStop struct{ Sleep struct{ Seconds int } } `yaml:"preStop"`
	}
}

type ingressPath struct {
	Path    string
	Backend struct {
		Service struct {
			Name string
			Port struct{ Name string }
		}
	}
}

type probe struct {
	HTTPGet struct{ Path, Port string } `yaml:"httpGet"`
}

// manifest returns the objects of a file in deploy by kind and name.
func manifest(t *testing.T, name string) map[string]object {
	t.Helper()
	text, err := os.ReadFile("../../deploy/" + name)
	require.NoError(t, err)
	objects := map[string]object{}
	for d := yaml.NewDecoder(bytes.NewReader(text)); ; {
		var o object
		err := d.Decode(&o)
		if errors.Is(err, io.EOF) {
			return objects
		}
		require.NoError(t, err)
		objects[o.Kind+" "+o.Metadata.Name] = o
	}
}

func TestTheManifestFitsTheHub(t *testing.T) {
	objects := manifest(t, "kubernetes.yaml")
	deployment := objects["Deployment hub"]
	require.ElementsMatch(t, []string{"Deployment hub", "Service hub", "Service hub-admin", "PodDisruptionBudget hub"}, slices.Collect(maps.Keys(objects)))
	pod := deployment.Spec.Template
	require.Equal(t, map[string]string{"app": "hub"}, pod.Metadata.Labels)
	require.Len(t, pod.Spec.Containers, 1)
	c := pod.Spec.Containers[0]
	preStop := time.Duration(c.Lifecycle.PreStop.Sleep.Seconds) * time.Second
	require.Positive(t, preStop)
	require.Greater(t, time.Duration(pod.Spec.Grace)*time.Second, preStop+stopping(), "the drain has its time")
	require.False(t, pod.Spec.EnableServiceLinks)
	require.Less(t, objects["PodDisruptionBudget hub"].Spec.MaxUnavailable, deployment.Spec.Replicas)
	require.Equal(t, "None", objects["Service hub-admin"].Spec.ClusterIP)

	// The flags are ones that there are, and the ports theirs.
	args := []string{"--admin-token=0123456789abcdef"}
	for _, e := range c.Env {
		if strings.HasPrefix(e.Name, envPrefix) && e.Value != "" {
			args = append(args, "--"+flagName(e.Name)+"="+e.Value)
		}
	}
	require.Equal(t, []string{"serve"}, c.Args)
	conf, err := parseServe(t, args...)
	require.NoError(t, err)
	ports := map[string]int{}
	for _, p := range c.Ports {
		ports[p.Name] = p.ContainerPort
	}
	require.Equal(t, map[string]int{"spokes": portOf(conf.listen), "admin": portOf(conf.admin)}, ports)
	for _, o := range objects {
		for _, p := range o.Spec.Ports {
			require.Contains(t, ports, p.TargetPort)
		}
	}
	// The probes ask for what the admin side has.
	for p, path := range map[probe]string{c.Startup: "/livez", c.Liveness: "/livez", c.Readiness: "/readyz"} {
		require.Equal(t, path, p.HTTPGet.Path)
		require.Equal(t, "admin", p.HTTPGet.Port)
	}
	// Memory: the spokes, the buffers and the collector fit the container.
	limit := memoryOf(t, c.Resources.Limits["memory"])
	goLimit := int64(0)
	for _, e := range c.Env {
		if e.Name == "GOMEMLIMIT" {
			goLimit = memoryOf(t, strings.TrimSuffix(e.Value, "B"))
		}
	}
	kernel := int64(conf.maxSpokes) * kernelBytesPerSpoke
	require.Less(t, goLimit+kernel, limit)
	require.Less(t, 2*conf.totalBuffer+int64(conf.maxSpokes)*processBytesPerSpoke, goLimit)
}

// What the ingress does is what interop runs of nginx.conf: the same directives with the same values.
func TestTheIngressFitsTheHub(t *testing.T) {
	ingress := manifest(t, "kubernetes-ingress.yaml")["Ingress hub"]
	proxy, err := os.ReadFile("../../interop/proxies/nginx.conf")
	require.NoError(t, err)
	var c config
	serveFlags(&c)
	var directives []string
	for name, value := range ingress.Metadata.Annotations {
		directive := strings.ReplaceAll(strings.TrimPrefix(name, "nginx.ingress.kubernetes.io/"), "-", "_")
		if seconds, err := strconv.Atoi(value); err == nil {
			require.Greater(t, time.Duration(seconds)*time.Second, c.ping+c.pongTimeout, name)
			value += "s"
		}
		if directive != "force_ssl_redirect" { // nginx.conf has no port without TLS
			directives = append(directives, directive)
			require.Contains(t, string(proxy), "\t"+directive+" "+value+";")
		}
	}
	require.ElementsMatch(t, []string{"proxy_read_timeout", "proxy_send_timeout", "proxy_buffering"}, directives)
	require.Len(t, ingress.Spec.Rules, 1)
	rule := ingress.Spec.Rules[0]
	require.Equal(t, []string{rule.Host}, ingress.Spec.TLS[0].Hosts)
	require.Len(t, rule.HTTP.Paths, 1, "the spokes' path alone")
	require.Equal(t, c.path, rule.HTTP.Paths[0].Path)
	backend := rule.HTTP.Paths[0].Backend.Service
	service := manifest(t, "kubernetes.yaml")["Service "+backend.Name]
	require.Len(t, service.Spec.Ports, 1)
	require.Equal(t, backend.Port.Name, service.Spec.Ports[0].Name)

	// What kubernetes.yaml has for it is a flag, once it is no comment any more.
	text, err := os.ReadFile("../../deploy/kubernetes.yaml")
	require.NoError(t, err)
	m := regexp.MustCompile(`# - \{name: HUB_TRUSTED_PROXIES, value: (\S+)\}`).FindSubmatch(text)
	require.NotNil(t, m)
	_, err = parseServe(t, "--trusted-proxies="+string(m[1]))
	require.NoError(t, err)
}

// memoryOf reads 512Mi and 1Gi.
func memoryOf(t *testing.T, s string) int64 {
	t.Helper()
	for unit, size := range map[string]int64{"Mi": 1 << 20, "Gi": 1 << 30} {
		if number, ok := strings.CutSuffix(s, unit); ok {
			n, err := strconv.ParseInt(number, 10, 64)
			require.NoError(t, err)
			return n * size
		}
	}
	require.FailNow(t, "no amount of memory", s)
	return 0
}

func TestTheUnitFitsTheHub(t *testing.T) {
	text, err := os.ReadFile("../../deploy/hub@.service")
	require.NoError(t, err)
	setting := func(name string) string {
		t.Helper()
		m := regexp.MustCompile(`(?m)^` + name + `=(.*)$`).FindSubmatch(text)
		require.NotNil(t, m, name)
		return string(m[1])
	}
	seconds, err := strconv.Atoi(setting("TimeoutStopSec"))
	require.NoError(t, err)
	require.Greater(t, time.Duration(seconds)*time.Second, stopping(), "the drain has its time")
	require.Equal(t, "notify", setting("Type"))
	require.NotContains(t, string(text), "\nMemoryDenyWriteExecute", "compiled code for JSON")
	descriptors, err := strconv.Atoi(setting("LimitNOFILE"))
	require.NoError(t, err)

	env, err := os.ReadFile("../../deploy/hub.env")
	require.NoError(t, err)
	var args []string
	for line := range strings.Lines(string(env)) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if !ok || !strings.HasPrefix(strings.TrimLeft(name, "# "), envPrefix) {
			continue
		}
		arg := "--" + flagName(strings.TrimLeft(name, "# ")) + "=" + value
		if !strings.HasPrefix(name, "#") {
			args = append(args, arg)
		} else if value != "" { // an example
			_, err := parseServe(t, arg)
			require.NoError(t, err)
		}
	}
	require.NotEmpty(t, args)
	c, err := parseServe(t, args...)
	require.NoError(t, err)
	require.Less(t, c.maxSpokes, descriptors)
	require.True(t, c.reusePort)
	_, _, err = net.SplitHostPort(c.listen)
	require.NoError(t, err)
}
