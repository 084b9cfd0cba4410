package examples

import (
	"fmt"

	"github.com/alkdev/hub/codec"
	"github.com/alkdev/hub/fanout"
)

// Prices change more often than a slow reader can take them. Under the policy Conflate it gets the newest
// price of every symbol and learns how many older ones it did not see: nothing that is sent is out of
// date, and nothing is lost in silence.
func Example_priceTicker() {
	hub, err := fanout.New(fanout.Config{
		Limits:    fanout.Limits{SpokeBytes: 1 << 10}, // room for about 25 prices
		PolicyFor: map[string]fanout.Policy{"price": fanout.Conflate},
	})
	check(err)
	defer hub.Close()

	const changes = 10_000
	symbols := []string{"ACME", "INIT"}
	published, done := make(chan struct{}), make(chan struct{})
	last := map[string]string{}
	var seen, conflated uint64
	reader, err := hub.Connect(func(e codec.Envelope) {
		switch e.Type {
		case "price":
			<-published // a reader that has other things to do
			seen++
			last[e.ID] = string(e.Payload)
		case codec.TypeGap:
			var gap codec.Gap
			check(e.Decode(&gap))
			conflated += gap.Conflated
		}
		if seen+conflated == changes {
			close(done)
		}
	}, codec.MustParsePattern("price:*"))
	check(err)
	defer reader.Close()

	for i := range changes {
		price, err := codec.NewEnvelope("price", symbols[i%2], i)
		check(err)
		_, err = hub.Dispatch(price)
		check(err)
	}
	close(published)
	<-done
	fmt.Println("the newest:", symbols[0], last["ACME"], symbols[1], last["INIT"])
	// What is on its way to the reader already, up to 64 KiB, is not conflated any more: some 1,500 prices.
	fmt.Println("seen and announced:", seen+conflated, "of which seen is little:", seen < changes/4)
	// Output:
	// the newest: ACME 9998 INIT 9999
	// seen and announced: 10000 of which seen is little: true
}
