package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"image/color"
	"io"
	"path/filepath"
	"slices"

	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// peersReport is what of bench/peers' report is drawn. There 0 stands for what is not known.
type peersReport struct {
	PayloadBytes int
	Servers      []peerResult
}

type peerResult struct {
	Server    string
	Clients   int
	IdleBytes float64
	Windows   []struct {
		Window           int
		CPUNanos         float64
		DeliveriesPerSec float64
	}
}

// nameOfFloor is what bench/peers calls it.
const nameOfFloor = "floor"

// readPeers returns the servers with the largest number of clients.
func readPeers(from io.Reader) (payloadBytes int, servers []peerResult, err error) {
	var r peersReport
	if err := json.NewDecoder(from).Decode(&r); err != nil {
		return 0, nil, err
	}
	most := 0
	for _, s := range r.Servers {
		most = max(most, s.Clients)
	}
	servers = slices.DeleteFunc(r.Servers, func(s peerResult) bool { return s.Clients != most })
	if len(servers) == 0 {
		return 0, nil, errors.New("there is no server in the figures of bench/peers")
	}
	return r.PayloadBytes, servers, nil
}

// drawPeers draws a row for each server, the floor at the top.
func drawPeers(from io.Reader, to string) error {
	payload, servers, err := readPeers(from)
	if err != nil {
		return err
	}
	clients := servers[0].Clients
	cpu := newChart(axis{label: "µs", log: true}, axis{label: "CPU per delivery"})
	idle := newChart(axis{label: "KB", log: true}, axis{label: "Resident memory for an idle client"})
	for w, window := range servers[0].Windows {
		var points plotter.XYs
		for i, s := range servers {
			if w < len(s.Windows) && s.Windows[w].CPUNanos > 0 {
				points = append(points, plotter.XY{X: s.Windows[w].CPUNanos / 1e3, Y: rowOf(i, servers)})
			}
		}
		if err := cpu.dots(fmt.Sprintf("window %d", window.Window), windowStyles[w%len(windowStyles)], points); err != nil {
			return err
		}
	}
	var points plotter.XYs
	for i, s := range servers {
		if s.IdleBytes > 0 && s.Server != nameOfFloor { // which keeps nothing
			points = append(points, plotter.XY{X: s.IdleBytes / (1 << 10), Y: rowOf(i, servers)})
		}
	}
	if err := idle.dots("", windowStyles[0], points); err != nil {
		return err
	}
	for _, c := range []*chart{cpu, idle} {
		c.nameRows(servers)
	}
	title := fmt.Sprintf("WebSocket servers: a broadcast to %s clients (payload %d B)", thousands(clients), payload)
	return saveSVG(filepath.Join(to, "peers.svg"), title, []*chart{cpu, idle})
}

// rowOf is the height of server i.
func rowOf(i int, servers []peerResult) float64 { return float64(len(servers) - 1 - i) }

func (c *chart) nameRows(servers []peerResult) {
	names := make([]string, len(servers))
	for i, s := range servers {
		names[len(servers)-1-i] = s.Server
	}
	font := c.Y.Tick.Label.Font
	c.NominalY(names...)
	c.Y.Tick.Label.Font = font
	c.Y.Min, c.Y.Max = -0.6, float64(len(servers))-0.4
}

// windowStyles are from a full window to an empty one.
var windowStyles = []style{
	{color: color.RGBA{R: 0x00, G: 0x5f, B: 0xb8, A: 0xff}, shape: draw.CircleGlyph{}},
	{color: color.RGBA{R: 0xc2, G: 0x5a, B: 0x00, A: 0xff}, shape: draw.BoxGlyph{}},
	{color: color.RGBA{R: 0x2e, G: 0x7d, B: 0x32, A: 0xff}, shape: draw.PyramidGlyph{}},
}

// dots draws points that no line joins.
func (c *chart) dots(name string, s style, points plotter.XYs) error {
	glyphs, err := plotter.NewScatter(points)
	if err != nil {
		return err
	}
	glyphs.GlyphStyle = draw.GlyphStyle{Color: s.color, Radius: vg.Points(4), Shape: s.shape}
	c.Add(glyphs)
	if name != "" {
		c.explain(name, glyphs)
	}
	return nil
}

func thousands(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%d,%03d", n/1000, n%1000)
}
