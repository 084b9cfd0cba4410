package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bytedance/sonic"
	"github.com/stretchr/testify/require"
)

// paper is a machine that is described.
type paper struct {
	files         map[string]string
	soft, hard    uint64
	lowatIs       int // 0 for what was set
	lowatErr      error
	listenErr     map[string]error
	joinErr       error
	hubs          map[string]bool
	now           time.Time
	clockErr      error
	unsynced      bool
	gomaxprocs, n int
	vars          map[string]string
}

func (m *paper) read(path string) (string, error) {
	text, ok := m.files[path]
	if !ok {
		return "", fmt.Errorf("open %s: %w", path, os.ErrNotExist)
	}
	return strings.TrimSpace(text), nil
}
func (m *paper) descriptors() (soft, hard uint64, err error) { return m.soft, m.hard, nil }
func (m *paper) lowat(n int) (int, error) {
	if m.lowatIs != 0 {
		n = m.lowatIs
	}
	return n, m.lowatErr
}
func (m *paper) listen(address string) error     { return m.listenErr[address] }
func (m *paper) join(string) error               { return m.joinErr }
func (m *paper) hub(address string) bool         { return m.hubs[address] }
func (m *paper) clock() (time.Time, bool, error) { return m.now, !m.unsynced, m.clockErr }
func (m *paper) procs() (gomaxprocs, cpus int)   { return m.gomaxprocs, m.n }
func (m *paper) env(name string) string          { return m.vars[name] }
func (m *paper) environ() (env []string) {
	for name, value := range m.vars {
		env = append(env, name+"="+value)
	}
	return env
}
func (m *paper) set(path, text string) (before string) {
	before, m.files[path] = m.files[path], text
	return before
}

// sound is a machine with which nothing is wrong, for 100,000 spokes.
func sound() *paper {
	return &paper{
		files: map[string]string{
			"/proc/sys/net/core/somaxconn":                                       "4096\n",
			"/proc/sys/net/core/wmem_max":                                        "212992\n",
			"/proc/sys/net/ipv4/tcp_max_syn_backlog":                             "2048\n",
			"/proc/sys/net/ipv4/tcp_syncookies":                                  "1\n",
			"/proc/sys/net/ipv4/ip_local_port_range":                             "32768\t60999\n",
			"/proc/sys/net/ipv4/ip_local_reserved_ports":                         "\n",
			"/proc/sys/net/ipv4/tcp_mem":                                         "287901\t383868\t575802\n",
			"/proc/sys/net/ipv4/tcp_wmem":                                        "4096\t16384\t4194304\n",
			"/proc/sys/net/ipv4/tcp_rmem":                                        "4096\t131072\t6291456\n",
			"/proc/sys/fs/nr_open":                                               "1048576\n",
			"/proc/sys/fs/file-max":                                              "9223372036854775807\n",
			"/proc/meminfo":                                                      "MemTotal:       24684092 kB\nMemAvailable:   16000000 kB\n",
			"/proc/self/cgroup":                                                  "0::/system.slice/hub.service\n",
			"/sys/fs/cgroup/system.slice/hub.service/cpu.max":                    "max 100000\n",
			"/sys/fs/cgroup/system.slice/hub.service/memory.max":                 "max\n",
			"/sys/devices/system/clocksource/clocksource0/current_clocksource":   "tsc\n",
			"/sys/devices/system/clocksource/clocksource0/available_clocksource": "tsc hpet acpi_pm\n",
		},
		soft: 200_000, hard: 200_000, listenErr: map[string]error{}, now: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC),
		gomaxprocs: 4, n: 4, vars: map[string]string{},
	}
}

// diagnose runs hub doctor on m and returns its findings by name.
func diagnose(t *testing.T, m machine, args ...string) (map[string]finding, error) {
	t.Helper()
	var out strings.Builder
	err := runDoctor(append([]string{"--json", "--shards=1", "--pollers=1"}, args...), m, &out)
	var list []finding
	require.NoError(t, sonic.UnmarshalString(out.String(), &list))
	found := make(map[string]finding, len(list))
	for _, f := range list {
		require.NotContains(t, found, f.Name)
		found[f.Name] = f
	}
	return found, err
}

func TestASoundMachineIsWell(t *testing.T) {
	found, err := diagnose(t, sound(), "--max-spokes=100000")
	require.NoError(t, err)
	for _, name := range []string{
		"descriptors", "listen address", "admin address", "backlog", "SYN backlog", "ephemeral ports", "TCP memory", "send buffers",
		"receive buffers", "NOTSENT_LOWAT", "memory", "CPUs", "clock", "clock source",
	} {
		require.Equal(t, fine, found[name].Verdict, "%s: %v", name, found[name])
		require.NotEmpty(t, found[name].Is)
		require.Empty(t, found[name].Want+found[name].Fix, name)
	}
}

func TestDoctorSaysWhatIsWrongAndHowToChangeIt(t *testing.T) {
	const group = "/sys/fs/cgroup/system.slice/hub.service/"
	file := func(path, text string) func(*paper) { return func(m *paper) { m.set(path, text) } }
	gib := func(m *paper) { // in a slice above the unit
		m.set("/sys/fs/cgroup/system.slice/memory.max", "1073741824")
		m.set("/sys/fs/cgroup/system.slice/memory.current", "0")
	}
	for _, c := range []struct {
		ill             func(*paper)
		args            string
		name            string
		want            verdict
		is, should, fix string
	}{
		{func(m *paper) { m.soft, m.hard = 20_000, 20_000 }, "--max-spokes=100000",
			"descriptors", bad, "20,000 (hard limit 20,000), room for 19,936 spokes", "100,064", "LimitNOFILE=100064"},
		{func(m *paper) { m.soft = 1024 }, "--max-spokes=100000", "descriptors", bad, "1,024 (hard limit 200,000)", "100,064", "ulimit -n 100064"},
		{func(m *paper) { m.soft, m.hard = 20_000, 20_000 }, "", "descriptors", risky, "room for 19,936 spokes", "or --max-spokes below", "LimitNOFILE=65536"},
		{func(*paper) {}, "--max-spokes=2000000", "descriptors", bad, "200,000", "2,000,064", "sysctl -w fs.nr_open=2000064, then LimitNOFILE=2000064"},
		{file("/proc/sys/fs/file-max", "90000"), "--max-spokes=100000", "files", bad, "90,000", "100,064", "sysctl -w fs.file-max="},
		{func(m *paper) { m.listenErr[":8080"] = syscall.EADDRINUSE }, "", "listen address", bad, ":8080 is in use", "free", "ss -ltnp 'sport = :8080'"},
		{func(m *paper) { m.listenErr["127.0.0.1:8081"] = syscall.EADDRINUSE }, "", "admin address", bad, "in use", "free", "another --admin"},
		{func(m *paper) {
			m.listenErr["127.0.0.1:8081"], m.hubs = syscall.EADDRINUSE, map[string]bool{"127.0.0.1:8081": true}
		}, "", "admin address", bad, "in use: a hub answers there already", "free", "stop that hub, which ss -ltnp 'sport = :8081' shows"},
		{func(*paper) {}, "--listen=127.0.0.1:8080 --admin=127.0.0.1:8080", "admin address", bad, "127.0.0.1:8080 is where --listen listens", "of its own", "another --admin"},
		{func(*paper) {}, "--listen=:8080 --admin=127.0.0.1:8080", "admin address", bad, "is where --listen listens", "of its own", "another --admin"},
		{func(*paper) {}, "--listen=127.0.0.2:8080 --admin=127.0.0.1:8080", "admin address", fine, "is free", "", ""},
		{func(*paper) {}, "--listen=:0 --admin=127.0.0.1:0", "admin address", fine, "is free", "", ""},
		{func(*paper) {}, "--engine=embedded --cluster-listen=0.0.0.0:8081", "cluster-listen address", bad, "is where --admin listens", "of its own", "another --cluster-listen"},
		{func(m *paper) { m.listenErr[":6222"] = syscall.EADDRINUSE }, "--engine=embedded", "cluster-listen address", bad, "in use", "free", "another --cluster-listen"},
		{func(m *paper) { m.listenErr[":80"] = syscall.EACCES }, "--listen=:80", "listen address", bad, "port 80 is for root", "", "CapabilityBoundingSet=CAP_NET_BIND_SERVICE"},
		{func(m *paper) { m.listenErr["192.0.2.1:80"] = syscall.EADDRNOTAVAIL }, "--listen=192.0.2.1:80", "listen address", bad, "no address of this machine", "", "another --listen"},
		{func(m *paper) { m.listenErr[":8080"] = errors.New("no such luck") }, "", "listen address", bad, "no such luck", "", "another --listen"},
		{func(m *paper) { m.listenErr[":8080"] = syscall.EADDRINUSE }, "--reuse-port", "listen address", fine, "by hubs that share it", "", ""},
		{func(m *paper) { m.listenErr[":8080"], m.joinErr = syscall.EADDRINUSE, syscall.EADDRINUSE }, "--reuse-port", "listen address", bad, "in use", "", "ss -ltnp"},
		{file("/proc/sys/net/ipv4/tcp_migrate_req", "0"), "--reuse-port", "migration", risky, "tcp_migrate_req = 0", "1: who waits", "sysctl -w net.ipv4.tcp_migrate_req=1"},
		{file("/proc/sys/net/ipv4/tcp_migrate_req", "1"), "--reuse-port", "migration", fine, "tcp_migrate_req = 1", "", ""},
		{func(*paper) {}, "--reuse-port", "migration", risky, "unknown", "Linux 5.14", "a newer kernel"},
		{file("/proc/sys/net/core/somaxconn", "128"), "--max-spokes=100000", "backlog", bad, "somaxconn = 128", "4096", "sysctl -w net.core.somaxconn=4096"},
		{file("/proc/sys/net/core/somaxconn", "1024"), "--max-spokes=100000", "backlog", risky, "somaxconn = 1024", "4096", "sysctl"},
		{file("/proc/sys/net/core/somaxconn", "128"), "--max-spokes=100", "backlog", fine, "somaxconn = 128", "", ""},
		{func(m *paper) { delete(m.files, "/proc/sys/net/core/somaxconn") }, "", "backlog", risky, "unknown: open /proc", "readable", ""},
		{func(m *paper) {
			m.set("/proc/sys/net/ipv4/tcp_syncookies", "0")
			m.set("/proc/sys/net/ipv4/tcp_max_syn_backlog", "512")
		}, "--max-spokes=100000", "SYN backlog", risky, "512", "1024", "tcp_max_syn_backlog"},
		{func(*paper) {}, "--listen=:40000", "ephemeral ports", risky, "32768 to 60999", "a range without 40000", "ip_local_reserved_ports=40000"},
		{file("/proc/sys/net/ipv4/ip_local_reserved_ports", "40000"), "--listen=:40000", "ephemeral ports", fine, "", "", ""},
		{func(*paper) {}, "--listen=127.0.0.1:8080 --max-spokes=100000", "ephemeral ports", bad, "28,232", "100,000, for a proxy on this machine", "127.0.0.2"},
		{file("/proc/sys/net/ipv4/tcp_mem", "1000 2000 4000"), "--max-spokes=100000", "TCP memory", bad, "pressure from 7.8 MiB, no more than 16 MiB", "313 MiB: one in 10 of 100,000 spokes stalled with 32 KiB", "sysctl -w net.ipv4.tcp_mem="},
		{file("/proc/sys/net/ipv4/tcp_mem", "30000 40000 90000"), "--max-spokes=100000", "TCP memory", risky, "156 MiB", "313 MiB", "sysctl"},
		{func(*paper) {}, "--max-spokes=100000 --sndbuf=1MiB", "TCP memory", bad, "", "with 2.0 MiB each", "a smaller --sndbuf"},
		{func(*paper) {}, "--sndbuf=1MiB", "send buffers", bad, "wmem_max = 212992", "--sndbuf 1MiB is cut to 208KiB", "sysctl -w net.core.wmem_max=1048576"},
		{file("/proc/sys/net/ipv4/tcp_wmem", "4096 8192 8192"), "", "send buffers", risky, "4096 8192 8192", "above --notsent-lowat, 16KiB", "tcp_wmem"},
		{file("/proc/sys/net/ipv4/tcp_rmem", "4096 8192 8192"), "", "receive buffers", risky, "4096 8192 8192", "16384", "tcp_rmem"},
		{func(m *paper) { m.lowatErr = syscall.ENOPROTOOPT }, "", "NOTSENT_LOWAT", risky, "protocol not available", "", "Linux 3.12"},
		{func(m *paper) { m.lowatIs = 7 }, "", "NOTSENT_LOWAT", risky, "is 7 after setting it to 16384", "", "Linux 3.12"},
		{func(m *paper) { m.lowatErr = syscall.ENOPROTOOPT }, "--notsent-lowat=0", "NOTSENT_LOWAT", fine, "not asked for", "", ""},
		{file("/proc/sys/net/netfilter/nf_conntrack_max", "65536"), "--max-spokes=100000", "tracking", bad, "65,536", "100,000", "nf_conntrack_max=125000"},
		{file("/proc/sys/net/netfilter/nf_conntrack_max", "262144"), "--max-spokes=100000", "tracking", fine, "262,144", "", ""},
		{file("/proc/meminfo", "MemAvailable: 800000 kB"), "--max-spokes=100000", "memory", bad, "781 MiB available", "1.0 GiB: 100,000 spokes of 5.5 KiB, and twice --total-buffer 256MiB", "--total-buffer"},
		{file("/proc/meminfo", "MemAvailable: 1150000 kB"), "--max-spokes=100000", "memory", risky, "1.1 GiB", "a fifth to spare", ""},
		{file("/proc/meminfo", "MemAvailable: 1000000 kB"), "--max-spokes=100000 --tls-cert=none.pem --tls-key=none.key", "memory", bad, "room for 51,421 idle spokes over TLS",
			"1.4 GiB: 100,000 spokes over TLS of 9.3 KiB, and twice --total-buffer 256MiB", "--total-buffer"},
		{file("/proc/meminfo", "MemAvailable: 400000 kB"), "", "memory", bad, "room for 0 idle spokes", "", ""},
		{func(m *paper) { m.set(group+"memory.max", "536870912"); m.set(group+"memory.current", "1048576") }, "--max-spokes=1000",
			"memory", bad, "511 MiB left of the 512 MiB of the control group", "", "MemoryMax="},
		{gib, "--max-spokes=1000", "memory limit", fine, "--memory-limit auto in a control group of 1.0 GiB", "", ""},
		{gib, "--memory-limit=900MiB", "memory limit", fine, "--memory-limit 900MiB", "", ""},
		{gib, "--memory-limit=1000MiB", "memory limit", bad, "--memory-limit 1000MiB in a control group of 1.0 GiB", "somewhat less", "--memory-limit auto"},
		{gib, "--memory-limit=off", "memory limit", risky, "--memory-limit off", "somewhat less", "--memory-limit auto"},
		{func(m *paper) { gib(m); m.vars["GOMEMLIMIT"] = "off" }, "", "memory limit", risky, "GOMEMLIMIT=off", "somewhat less", "--memory-limit auto"},
		{func(m *paper) {
			m.set("/proc/self/cgroup", "4:cpu,cpuacct:/hub\n3:memory:/hub\n0::/\n")
			m.set("/sys/fs/cgroup/cpu/hub/cpu.cfs_quota_us", "200000")
			m.set("/sys/fs/cgroup/cpu/hub/cpu.cfs_period_us", "100000")
		}, "", "CPUs", bad, "GOMAXPROCS 4 of 4 CPUs, the control group has a quota of 2", "", "unset GOMAXPROCS"},
		{file(group+"cpu.max", "250000 100000"), "", "CPUs", bad, "a quota of 2.5", "", "GOMAXPROCS=3"},
		{file(group+"cpu.max", "400000 100000"), "", "CPUs", fine, "a quota of 4", "", ""},
		{func(m *paper) { m.gomaxprocs = 8 }, "", "CPUs", risky, "GOMAXPROCS 8 of 4", "", "unset"},
		{func(*paper) {}, "--shards=16", "CPUs", risky, "--shards 16", "", "--shards 4"},
		{func(m *paper) { m.now = time.Unix(0, 0) }, "", "clock", risky, "1970-01-01T00:00:00Z", "today", "timedatectl"},
		{func(m *paper) { m.now = time.Unix(0, 0) }, "--auth-jwks=https://keys.example/", "clock", bad, "1970-01-01T00:00:00Z", "today", "timedatectl"},
		{func(m *paper) { m.clockErr = syscall.EPERM }, "", "clock", fine, "may not be asked here", "", ""},
		{func(m *paper) { m.clockErr = syscall.EPERM }, "--auth-jwks=https://keys.example/", "clock", risky, "may not be asked here", "synchronised", "timedatectl"},
		{func(m *paper) { m.clockErr = syscall.ENOSYS }, "", "clock", risky, "unknown", "", ""},
		{func(m *paper) { m.unsynced = true }, "", "clock", fine, "nothing depends on it without tokens", "", ""},
		{func(m *paper) { m.unsynced = true }, "--auth-jwks=https://keys.example/", "clock", risky, "not synchronised", "tokens expire by it", "chronyd"},
		{file("/sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet"), "", "clock source", risky, "hpet", "of: tsc hpet acpi_pm", "clocksource=tsc"},
		{func(m *paper) { m.vars["HUB_AUTH_JWT_KYE"] = "s3cret" }, "", "HUB_AUTH_JWT_KYE", risky, "no flag of hub serve has this twin; did you mean HUB_AUTH_JWT_KEY?", "the twin of a flag", "unset HUB_AUTH_JWT_KYE"},
		{func(*paper) {}, "--auth-jwks=/nowhere/keys.json", "key set", bad, "no such file", "", "ls -l /nowhere/keys.json"},
		{func(*paper) {}, "--auth-jwks=doctor_test.go", "key set", fine, "doctor_test.go", "", ""},
	} {
		m := sound()
		c.ill(m)
		found, err := diagnose(t, m, strings.Fields(c.args)...)
		f, there := found[c.name]
		require.True(t, there, "no finding %s", c.name)
		require.Equal(t, c.want, f.Verdict, "%v", f)
		require.Contains(t, f.Is, c.is, "%v", f)
		require.Contains(t, f.Want, c.should, "%v", f)
		require.Contains(t, f.Fix, c.fix, "%v", f)
		if c.want == bad {
			require.ErrorIs(t, err, errUnwell, "%v", f)
		}
		if c.want != fine {
			require.NotEmpty(t, f.Want, "%v", f)
			require.NotEmpty(t, f.Fix, "%v", f)
		}
	}
}

func TestDoctorLooksWhenTheCertificateEnds(t *testing.T) {
	_, certFile, keyFile := newCertificate(t, t.TempDir(), "hub")
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	require.NoError(t, err)
	begins, ends := pair.Leaf.NotBefore, pair.Leaf.NotAfter
	for now, want := range map[time.Time]verdict{
		begins.Add(-time.Second): bad, ends.Add(-time.Hour): risky, ends.Add(time.Second): bad,
	} {
		m := sound()
		m.now = now
		found, _ := diagnose(t, m, "--tls-cert="+certFile, "--tls-key="+keyFile)
		require.Equal(t, want, found["certificate"].Verdict, "%v", found["certificate"])
		require.Contains(t, found["certificate"].Is, ends.UTC().Format(time.RFC3339))
	}
	require.Equal(t, risky, goodAt(begins, begins, begins.Add(renewal-time.Second)))
	require.Equal(t, fine, goodAt(begins, begins, begins.Add(renewal+time.Second)))
	for name, args := range map[string][]string{
		"engine certificate":  {"--engine=nats://127.0.0.1:4222", "--engine-cert=" + certFile, "--engine-key=" + keyFile},
		"cluster certificate": {"--engine=embedded", "--cluster-cert=" + certFile, "--cluster-key=" + keyFile},
	} {
		m := sound()
		m.now = ends.Add(time.Second)
		found, err := diagnose(t, m, args...)
		require.ErrorIs(t, err, errUnwell)
		require.Equal(t, bad, found[name].Verdict, "%v", found[name])
		require.Contains(t, found[name].Fix, "restart")
	}
	found, err := diagnose(t, sound(), "--engine=embedded", "--cluster-ca="+keyFile)
	require.ErrorIs(t, err, errUnwell)
	require.Contains(t, found["cluster authorities"].Is, "holds no certificates")
	found, _ = diagnose(t, sound(), "--engine=embedded", "--cluster-ca="+certFile)
	require.Equal(t, fine, found["cluster authorities"].Verdict)

	_, otherCert, _ := newCertificate(t, t.TempDir(), "another")
	found, err = diagnose(t, sound(), "--tls-cert="+otherCert, "--tls-key="+keyFile)
	require.ErrorIs(t, err, errUnwell)
	require.Contains(t, found["certificate"].Is, "does not match")
	require.Contains(t, found["certificate"].Fix, "openssl pkey -pubout -in "+keyFile)
	found, err = diagnose(t, sound(), "--tls-cert=none.pem", "--tls-key="+keyFile)
	require.ErrorIs(t, err, errUnwell)
	require.Contains(t, found["certificate"].Is, "no such file")
}

// The real readings, on whatever machine tests.
func TestDoctorReadsThisMachine(t *testing.T) {
	found, _ := diagnose(t, thisMachine{}, "--listen=127.0.0.1:0", "--admin=off", "--max-spokes=16000000")
	for _, name := range []string{"descriptors", "backlog", "ephemeral ports", "TCP memory", "NOTSENT_LOWAT", "memory", "CPUs", "clock"} {
		require.Contains(t, found, name)
		require.NotContains(t, found[name].Is, "unknown", "%v", found[name])
	}
	soft, _, err := thisMachine{}.descriptors()
	require.NoError(t, err)
	require.Contains(t, found["descriptors"].Is, grouped(soft))
	require.Equal(t, bad, found["descriptors"].Verdict, "nobody has descriptors for 16,000,000 spokes")
	require.Equal(t, fine, found["NOTSENT_LOWAT"].Verdict)
	require.Equal(t, fine, found["listen address"].Verdict)

	spokes, _, _ := startHub(t)
	taken := strings.TrimSuffix(strings.TrimPrefix(spokes, "ws://"), "/ws")
	found, err = diagnose(t, thisMachine{}, "--listen="+taken, "--admin=off")
	require.ErrorIs(t, err, errUnwell)
	require.Equal(t, bad, found["listen address"].Verdict)
	require.Contains(t, found["listen address"].Is, "is in use: a hub answers there already")
	require.False(t, thisMachine{}.hub("127.0.0.1:1"))
	_, admin, _ := startHub(t, "--admin-token=secret")
	require.True(t, thisMachine{}.hub(strings.TrimPrefix(admin, "http://")), "it needs no token")
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	require.False(t, thisMachine{}.hub(other.Listener.Addr().String()))

	spokes, _, _ = startHub(t, "--reuse-port")
	taken = strings.TrimSuffix(strings.TrimPrefix(spokes, "ws://"), "/ws")
	found, _ = diagnose(t, thisMachine{}, "--listen="+taken, "--admin=off", "--reuse-port")
	require.Contains(t, found["listen address"].Is, "by hubs that share it")
	found, _ = diagnose(t, thisMachine{}, "--listen="+taken, "--admin=off")
	require.Equal(t, bad, found["listen address"].Verdict)
	for _, address := range []string{":0", "[::1]:0", "127.0.0.1:0", "localhost:0"} {
		require.NoError(t, thisMachine{}.join(address), address)
	}
}

func TestDoctorsReportCanBeReadByPeople(t *testing.T) {
	m := sound()
	m.soft, m.hard = 20_000, 20_000
	var out strings.Builder
	require.ErrorIs(t, runDoctor([]string{"--max-spokes=50000"}, m, &out), errUnwell)
	require.Contains(t, out.String(), `bad   descriptors      20,000 (hard limit 20,000), room for 19,936 spokes
                       want: 50,064 for --max-spokes 50000
                       fix:  LimitNOFILE=50064 in the unit; --ulimit nofile=50064 for docker run; '* hard nofile 50064' in /etc/security/limits.conf and a new login for a shell, where ulimit -n goes no further than the hard limit
`)
	require.Contains(t, out.String(), "ok    listen address   :8080 is free\n")
}
