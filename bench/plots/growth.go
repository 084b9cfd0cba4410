package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"

	"golang.org/x/perf/benchfmt"
	"golang.org/x/perf/benchproc"
	"gonum.org/v1/plot/plotter"
)

// reading is one result line of BenchmarkGrowth.
type reading struct {
	by, side string             // what varies; hub or floor
	param    map[string]float64 // spokes, payload, window, rate; the last is infinite if it is max
	values   map[string]float64 // in the units of benchfmt: what was in ns is in sec
}

// The names of parameters in those of benchmarks.
var params = []string{"spokes", "payload", "window", "rate"}

// readGrowth reads the output of go test -bench. Other benchmarks in it are left out.
func readGrowth(from io.Reader) (all []reading, err error) {
	var parser benchproc.ProjectionParser
	fields := make(map[string]*benchproc.Field)
	var names *benchproc.Projection
	if names, err = parser.Parse(".name,/by,/side,/spokes,/payload,/window,/rate", nil); err != nil {
		return nil, err
	}
	for _, f := range names.Fields() {
		fields[f.Name] = f
	}
	for r := benchfmt.NewReader(from, "growth"); r.Scan(); {
		switch res := r.Result().(type) {
		case *benchfmt.SyntaxError:
			return nil, res
		case *benchfmt.Result:
			key := names.Project(res)
			if key.Get(fields[".name"]) != "Growth" {
				continue
			}
			g := reading{
				by: key.Get(fields["/by"]), side: key.Get(fields["/side"]),
				param: make(map[string]float64), values: make(map[string]float64),
			}
			for _, name := range params {
				text := key.Get(fields["/"+name])
				if text == "" {
					continue
				}
				if text == "max" {
					text = "Inf"
				}
				if g.param[name], err = strconv.ParseFloat(text, 64); err != nil {
					return nil, err
				}
			}
			for _, v := range res.Values {
				g.values[v.Unit] = v.Value
			}
			all = append(all, g)
		}
	}
	if len(all) == 0 {
		return nil, errors.New("there is no result of BenchmarkGrowth")
	}
	return all, nil
}

// drawGrowth draws the three series.
func drawGrowth(from io.Reader, to string) error {
	all, err := readGrowth(from)
	if err != nil {
		return err
	}
	var errs []error
	for _, pic := range growthPictures {
		errs = append(errs, pic.save(all, to))
	}
	return errors.Join(errs...)
}

// picture is some panels in a row with the same x.
type picture struct {
	by, title string
	x         axis
	xOf       func(reading) (x float64, ok bool)
	panels    []panel
}

type panel struct {
	y     axis
	lines []line
}

// line is what is drawn of those readings that belong to it.
type line struct {
	name  string
	style style
	unit  string
	scale float64
	takes func(reading) bool
}

func (pic *picture) save(all []reading, to string) error {
	var plots []*chart
	for _, p := range pic.panels {
		c := newChart(pic.x, p.y)
		for _, l := range p.lines {
			s := pic.series(all, l)
			if len(s) == 0 {
				return fmt.Errorf("by %s: there is no reading for %q", pic.by, l.name)
			}
			if err := c.line(l.name, l.style, s); err != nil {
				return err
			}
		}
		plots = append(plots, c)
	}
	return saveSVG(filepath.Join(to, pic.by+".svg"), pic.title, plots)
}

// series returns the points of a line, each with what its counts have shown.
func (pic *picture) series(all []reading, l line) map[float64]plotter.XYs {
	s := make(map[float64]plotter.XYs)
	for _, r := range all {
		v, ok := r.values[l.unit]
		if !ok || r.by != pic.by || !l.takes(r) {
			continue
		}
		if x, ok := pic.xOf(r); ok {
			point := r.param[pic.by]
			s[point] = append(s[point], plotter.XY{X: x, Y: v * l.scale})
		}
	}
	return s
}
