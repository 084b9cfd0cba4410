// Command plots draws the pictures in docs/plots: how the cost of a broadcast grows, from what
// BenchmarkGrowth has printed, and how the hub stands beside others, from the figures of bench/peers.
// It is a module of its own, so that the charting library stays out of the hub's go.mod.
//
//	make bench-plots           runs BenchmarkGrowth and draws
//	go run -C bench/plots .    draws what docs/plots/growth.txt and docs/plots/peers.json say
//
// A point is the median of the counts of a benchmark, its bar reaches from the lowest to the highest.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

func main() {
	growth := flag.String("growth", "../../docs/plots/growth.txt", "what go test -bench Growth ./bench has printed")
	peers := flag.String("peers", "../../docs/plots/peers.json", "what bench/peers has written with -json")
	to := flag.String("to", "../../docs/plots", "the directory of the pictures")
	flag.Parse()
	if err := run(*growth, *peers, *to); err != nil {
		fmt.Fprintln(os.Stderr, "plots:", err)
		os.Exit(1)
	}
}

// run draws what there is input for.
func run(growth, peers, to string) error {
	return errors.Join(
		drawFrom(growth, func(f *os.File) error { return drawGrowth(f, to) }),
		drawFrom(peers, func(f *os.File) error { return drawPeers(f, to) }),
	)
}

func drawFrom(name string, draw func(*os.File) error) error {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		fmt.Fprintf(os.Stderr, "plots: there is no %s, so nothing is drawn from it\n", filepath.Base(name))
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	return draw(f)
}
