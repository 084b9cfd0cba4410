package interop

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
)

// proxies are the configurations in proxies/, each with the command that runs it in a directory.
var proxies = []struct {
	config  string
	command func(dir, config string) *exec.Cmd
}{
	{"nginx.conf", func(dir, config string) *exec.Cmd {
		return exec.Command("nginx", "-p", dir, "-c", config, "-e", "stderr", "-g", "daemon off; pid nginx.pid;")
	}},
	{"Caddyfile", func(_, config string) *exec.Cmd {
		return exec.Command("caddy", "run", "--adapter", "caddyfile", "--config", config)
	}},
	{"haproxy.cfg", haproxy},
	{"haproxy-tls.cfg", haproxy},
	{"haproxy-http.cfg", haproxy},
}

func haproxy(_, config string) *exec.Cmd { return exec.Command("haproxy", "-db", "-f", config) }

// startBehind starts the hub that a configuration is for.
func startBehind(t *testing.T, config string, flags ...string) *hub {
	t.Helper()
	flags = append(flags, "--trusted-proxies", "127.0.0.1")
	if config == "haproxy-tls.cfg" { // which leaves TLS to the hub
		return startSecureHub(t, flags...)
	}
	return startHub(t, flags...)
}

// address returns where the hub takes spokes.
func (h *hub) address(t *testing.T) string {
	t.Helper()
	u, err := url.Parse(h.spokes)
	require.NoError(t, err)
	return u.Host
}

// The client connects from an address of its own, and says that it has another. It stays silent for longer than
// the proxy's patience, which only the hub's pings keep up, and then gets an event at once.
func TestSpokesBehindProxies(t *testing.T) {
	for _, p := range proxies {
		t.Run(p.config, func(t *testing.T) {
			h := startBehind(t, p.config, "--ping", "300ms", "--pong-timeout", "10s")
			address := startProxy(t, p.config, p.command, h.address(t))
			c := dialThrough(t, address)
			require.Equal(t, "__welcome", readType(t, c))
			require.Regexp(t, `^127\.0\.0\.5:\d+$`, h.remote(t))
			types := make(chan string, 1)
			go func() {
				_, b, err := c.Read(context.Background()) // answers pings, too
				var e struct{ Type string }
				if err == nil && json.Unmarshal(b, &e) == nil {
					types <- e.Type
				}
				close(types)
			}()
			h.waitForAge(t, 3*time.Second)
			require.Equal(t, 1, h.publish(t, `{"type":"tick"}`))
			select {
			case typ := <-types:
				require.Equal(t, "tick", typ)
			case <-time.After(patience):
				require.Fail(t, "the event has not arrived while the connection is open")
			}
		})
	}
}

// Without the pings it would not have: the proxies of whom that is said do cut.
func TestProxiesCutSilentSpokes(t *testing.T) {
	for _, p := range proxies {
		if p.config == "Caddyfile" { // it has no such limit
			continue
		}
		t.Run(p.config, func(t *testing.T) {
			h := startBehind(t, p.config, "--ping", "1h")
			c := dialThrough(t, startProxy(t, p.config, p.command, h.address(t)))
			require.Equal(t, "__welcome", readType(t, c))
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			_, _, err := c.Read(ctx)
			require.Error(t, err)
			require.NoError(t, ctx.Err(), "the proxy has not cut it")
		})
	}
}

// remote returns the address of the one spoke there is.
func (h *hub) remote(t *testing.T) string {
	t.Helper()
	resp, err := http.Get(h.admin + "/v1/spokes")
	require.NoError(t, err)
	defer resp.Body.Close()
	var answer struct{ Spokes []struct{ Remote string } }
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&answer))
	require.Len(t, answer.Spokes, 1)
	return answer.Spokes[0].Remote
}

// startProxy runs a proxy in front of the hub at that address, with the patience of a second, and returns its own.
func startProxy(t *testing.T, config string, command func(dir, config string) *exec.Cmd, hub string) (address string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("proxies", config))
	require.NoError(t, err)
	address = freeAddress(t)
	_, port, err := net.SplitHostPort(address)
	require.NoError(t, err)
	dir := t.TempDir()
	pemFile := filepath.Join(dir, "hub.pem")
	certify(t, pemFile)
	adapted := strings.NewReplacer("127.0.0.1:8080", hub, "listen 443", "listen "+address, "127.0.0.1:443", "127.0.0.1:"+port,
		"bind :443", "bind "+address, "tls hub.pem hub.pem", "bind 127.0.0.1\n\ttls "+pemFile+" "+pemFile, " hub.pem", " "+pemFile, "60s", "1s").Replace(string(text))
	file := filepath.Join(dir, config)
	require.NoError(t, os.WriteFile(file, []byte(adapted), 0o600))
	cmd := command(dir, file)
	cmd.Stderr, cmd.Env = os.Stderr, append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); _ = cmd.Wait() })
	return address
}

func freeAddress(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	return ln.Addr().String()
}

// certify writes a certificate of its own, and the key, whose public part it returns.
func certify(t *testing.T, file string) crypto.PublicKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	now := time.Now()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	bundle := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})...)
	require.NoError(t, os.WriteFile(file, bundle, 0o600))
	return key.Public()
}

// dialThrough connects as soon as the proxy serves the hub, by wss, from 127.0.0.5.
func dialThrough(t *testing.T, address string) (c *websocket.Conn) {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 5)}}
	transport := &http.Transport{DialContext: dialer.DialContext, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	t.Cleanup(transport.CloseIdleConnections)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		var err error
		c, _, err = websocket.Dial(ctx, "wss://"+address+"/ws", &websocket.DialOptions{
			HTTPClient: &http.Client{Transport: transport}, HTTPHeader: http.Header{"X-Forwarded-For": {"192.0.2.99"}},
		})
		if err == nil {
			t.Cleanup(func() { _ = c.CloseNow() })
			return c
		}
		require.NoError(t, ctx.Err(), "%v", err)
		time.Sleep(50 * time.Millisecond) // until the proxy listens
	}
}

func readType(t *testing.T, c *websocket.Conn) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, b, err := c.Read(ctx)
	require.NoError(t, err)
	var e struct{ Type string }
	require.NoError(t, json.Unmarshal(b, &e))
	return e.Type
}
