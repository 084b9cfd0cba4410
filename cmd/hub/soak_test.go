package main

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alkdev/hub/internal/leak"
)

var (
	soakMinutes = flag.Float64("soak.minutes", 0, "minutes of TestSoak; 0 for the short run")
	soakSeed    = flag.Uint64("soak.seed", 1, "seed of TestSoak, from which the faults are drawn")
	soakSpokes  = flag.Int("soak.spokes", 0, "connections at a time in TestSoak; 0 for 40 in the short run, else 240")
	soakRate    = flag.Float64("soak.rate", 0, "events a second in TestSoak, about; 0 for 300 in the short run, else 40")
)

// TestSoak is the randomized fault run: spokes come and go through a proxy that breaks connections at
// any byte, events flow by every path, and every stream and every count is checked. docs/testing.md
// says what. It goes through rounds, each with a hub of its own, under all the policies in turn.
//
//	make soak MINUTES=60 SEED=7
func TestSoak(t *testing.T) {
	rounds, length := 2*len(soakPolicies), time.Second
	if total := time.Duration(*soakMinutes * float64(time.Minute)); total > 0 {
		rounds, length = soakRounds(total)
	}
	t.Logf("soak: seed %d, %d rounds of %v", *soakSeed, rounds, length)
	goroutines, descriptors := runtime.NumGoroutine(), leak.Descriptors()
	heap := uint64(0)
	for number := range rounds {
		runSoakRound(t, *soakSeed, number, length)
		awaitGoroutines(t, goroutines)
		require.NoError(t, leak.AwaitDescriptors(descriptors), "seed %d, round %d", *soakSeed, number)
		live := liveHeap()
		t.Logf("soak: live heap after round %d: %d KiB", number, live>>10)
		if number < 2 { // what is made once and kept: pools, compiled codecs
			heap = max(heap, live)
			continue
		}
		require.LessOrEqual(t, live, heap+soakHeapTolerance, "seed %d, round %d: the heap has grown", *soakSeed, number)
	}
}

// soakHeapTolerance is what the live heap may differ by between two rounds: connections that have
// ended are garbage to the last, but for what pools keep of them.
const soakHeapTolerance = 4 << 20

// soakRounds divides a run: every policy, with and without compression, gets its turn, and in a long run
// each hub lives for minutes.
func soakRounds(total time.Duration) (rounds int, length time.Duration) {
	cycle := 2 * len(soakPolicies)
	cycles := max(1, int(total/(time.Duration(cycle)*10*time.Second)))
	cycles = min(cycles, 4)
	return cycle * cycles, total / time.Duration(cycle*cycles)
}

// awaitGoroutines waits until there are no more than before.
func awaitGoroutines(t *testing.T, before int) {
	http.DefaultClient.CloseIdleConnections()
	for began := time.Now(); runtime.NumGoroutine() > before; runtime.Gosched() {
		if time.Since(began) > soakPatience {
			stacks := make([]byte, 1<<20)
			require.Fail(t, "goroutines are left", "%d, %d before:\n%s", runtime.NumGoroutine(), before, stacks[:runtime.Stack(stacks, true)])
		}
	}
}

func liveHeap() uint64 {
	for range 3 { // pools give up what is unused in two
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

var soakPolicies = []string{"disconnect", "drop-oldest", "drop-newest", "conflate", "mixed"}

// soakFlags draws the flags of the hub of a round.
func soakFlags(rng *rand.Rand, number int) (args []string) {
	add := func(format string, values ...any) { args = append(args, fmt.Sprintf(format, values...)) }
	pick := func(values ...string) string { return values[rng.IntN(len(values))] }
	n := len(soakPolicies)
	if policy := soakPolicies[number%n]; policy == "mixed" {
		add("--slow=%s", pick("drop-oldest", "conflate"))
		add("--slow-for=a=drop-newest,b=conflate,c=drop-oldest,%s", pick("d=conflate", "d=disconnect", "x=disconnect"))
	} else {
		add("--slow=%s", policy)
	}
	if (number/n+number)%2 == 0 { // the other half of the policies in the next cycle
		add("--compress=true")
		add("--compress-min=%s", pick("64", "512"))
	}
	buffer := pick("16KiB", "64KiB", "256KiB")
	add("--spoke-buffer=%s", buffer)
	add("--max-message=8KiB")
	if rng.IntN(2) == 0 {
		add("--relay=others")
	} else {
		add("--total-buffer=%s", pick("512KiB", "256MiB"))
	}
	add("--spoke-lag=%s", pick("500ms", "10s"))
	add("--subscribe=%s", pick("all", "all", "explicit"))
	add("--frames=%s", pick("text", "binary"))
	add("--shards=%d", 1+rng.IntN(4))
	add("--pollers=%d", 1+rng.IntN(3))
	add("--sndbuf=%s", pick("0", "8KiB"))
	add("--notsent-lowat=%s", pick("0", "16KiB"))
	add("--read-buffer=%s", pick("1KiB", "64KiB"))
	return append(args, "--ping=1s", "--pong-timeout=10s", "--close-timeout=5s", "--handshake-timeout=10s", "--drain-timeout=20s",
		"--node=soak", "--bad-envelopes=4")
}
