package bench

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What one costs, as measured: docs/capacity.md and docs/cluster.md say how.
const (
	costSpokeBytes    = 5.9e3  // process and kernel
	costDelivery      = 6.6e-6 // seconds of CPU, an event per write
	costPublish       = 2.0e-6 // Dispatch, and handing over to the engine
	costCopy          = 0.6e-6 // for each other hub that an embedded server sends it to
	costArrival       = 6.4e-6 // from the route to the spokes' shards
	costInterestBytes = 538.0  // of an embedded server, for a topic that another hub wants
	costRedisPublish  = 0.74e-6
	costRedisCopy     = 0.40e-6
)

// clusterLoad is a load on so many spokes on so many hubs.
type clusterLoad struct {
	name         string
	spokes, hubs int
	perTopic     int     // takers of a topic; 0 for everybody
	eventsPerSec float64 // of all
	placed       bool    // the takers of a topic are on one hub, events come from any
}

// clusterSums is what it adds up to.
type clusterSums struct {
	reach          float64 // other hubs that an event goes to
	deliveriesHub  float64 // a second
	deliveryCores  float64
	arrivals       float64 // a second, at each hub
	engineCores    float64 // of each hub, with embedded servers
	perLink        float64 // messages a second from one hub to another
	interest       float64 // topics that each server knows of
	interestGB     float64
	copies         float64 // a second, all together
	redisNodeCores float64 // of each node of a Redis Cluster of three
}

// sum places takers at random and counts.
func (l clusterLoad) sum(random *rand.Rand) (s clusterSums) {
	hubs, takers := l.hubs, l.perTopic
	if takers == 0 {
		takers = l.spokes
	}
	topics := float64(l.spokes) / float64(takers)
	reached := 0.0 // hubs with a taker, of a topic
	switch {
	case l.placed:
		reached = 1
	case l.perTopic == 0:
		reached = float64(hubs)
	default:
		const samples = 20_000
		at := make([]int, hubs)
		for sample := 1; sample <= samples; sample++ {
			for range takers {
				if h := random.IntN(hubs); at[h] != sample {
					at[h] = sample
					reached++
				}
			}
		}
		reached /= samples
	}
	s.reach = reached * (1 - 1/float64(hubs)) // the publisher's hub is any
	s.copies = l.eventsPerSec * s.reach
	s.deliveriesHub = l.eventsPerSec * float64(takers) / float64(hubs)
	s.deliveryCores = s.deliveriesHub * costDelivery
	s.arrivals = s.copies / float64(hubs)
	s.engineCores = l.eventsPerSec/float64(hubs)*costPublish + s.arrivals*(costCopy+costArrival)
	s.perLink = s.copies / float64(hubs) / math.Max(1, float64(hubs-1))
	s.interest = topics * reached
	s.interestGB = s.interest * costInterestBytes / 1e9
	// A node of a Redis Cluster has every event, and sends it to those of its hubs that want it, and back to the
	// publisher's.
	const nodes = 3
	s.redisNodeCores = l.eventsPerSec*costRedisPublish + l.eventsPerSec*reached/nodes*costRedisCopy
	return s
}

// TestCapacityOfAClusterIsAsDocumented works out what clusters need, and holds the table in docs/capacity.md to it.
func TestCapacityOfAClusterIsAsDocumented(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	const perHub = 100_000
	lines := []string{
		"| load | spokes, hubs | other hubs an event goes to | deliveries a hub | for them | arrivals a hub | for the engine | a link | topics a server knows | a Redis node of three |",
		"|---|---|---|---|---|---|---|---|---|---|",
	}
	for _, spokes := range []int{1_000_000, 10_000_000} {
		hubs := spokes / perHub
		n := float64(spokes)
		for _, l := range []clusterLoad{
			{name: "an event a second to everybody", eventsPerSec: 1},
			{name: "rooms of 50 anywhere, an event each in 10 s", perTopic: 50, eventsPerSec: n / 50 / 10},
			{name: "the same, a room on one hub", perTopic: 50, eventsPerSec: n / 50 / 10, placed: true},
			{name: "a topic for each spoke, an event each in 10 s", perTopic: 1, eventsPerSec: n / 10},
		} {
			l.spokes, l.hubs = spokes, hubs
			s := l.sum(random)
			lines = append(lines, fmt.Sprintf("| %s | %dM, %d | %.1f | %s/s | %.2f cores | %s/s | %.2f cores | %s/s | %s, %.1f GB | %.2f cores |",
				l.name, spokes/1_000_000, hubs, s.reach, short(s.deliveriesHub), s.deliveryCores, short(s.arrivals), s.engineCores,
				short(s.perLink), short(s.interest), s.interestGB, s.redisNodeCores))
		}
	}
	table := strings.Join(lines, "\n") + "\n"
	t.Log("\n" + table)
	doc, err := os.ReadFile("../docs/capacity.md")
	require.NoError(t, err)
	require.Contains(t, string(doc), table, "the table is what -v shows")
}

// short writes a number with two digits that count.
func short(f float64) string {
	switch {
	case f >= 1e6:
		return fmt.Sprintf("%.1fM", f/1e6)
	case f >= 10e3:
		return fmt.Sprintf("%.0fk", f/1e3)
	case f >= 100:
		return fmt.Sprintf("%.0f", f)
	}
	return fmt.Sprintf("%.2g", f)
}
