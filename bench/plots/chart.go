package main

import (
	"bytes"
	"fmt"
	"image/color"
	"maps"
	"math"
	"os"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// style is how a line looks.
type style struct {
	color color.Color
	dash  []vg.Length
	shape draw.GlyphDrawer
}

// The two are told apart by people who see no difference of hue, and in print.
var (
	hubStyle   = style{color: color.RGBA{R: 0x00, G: 0x5f, B: 0xb8, A: 0xff}, shape: draw.CircleGlyph{}}
	floorStyle = style{color: color.RGBA{R: 0xc2, G: 0x5a, B: 0x00, A: 0xff}, shape: draw.BoxGlyph{}}
)

// second is the style of a second line of the same side.
func (s style) second() style {
	s.dash = []vg.Length{vg.Points(5), vg.Points(3)}
	return s
}

// axis begins at 0 unless it is logarithmic.
type axis struct {
	label string
	log   bool
	at    []float64            // its ticks; where there are none, they are found
	write func(float64) string // what stands at one of them
}

// chart is one panel, with its heading and its legend above it.
type chart struct {
	*plot.Plot
	x, y   axis
	legend plot.Legend
	rows   int // of the legend
}

var (
	gridColor = color.Gray{Y: 0xe2}
	inkColor  = color.Gray{Y: 0x22}
)

const (
	textSize  = font.Length(11)
	titleSize = font.Length(14)
)

func newChart(x, y axis) *chart {
	p := plot.New()
	p.BackgroundColor = color.White
	legend := plot.NewLegend()
	legend.Left, legend.Top = true, true
	legend.TextStyle.Font = sans(textSize)
	legend.TextStyle.Color = inkColor
	legend.ThumbnailWidth = vg.Points(28)
	legend.Padding = vg.Points(3)
	setAxis(&p.X, x)
	setAxis(&p.Y, y)
	p.Y.Label.Text = "" // it stands above the panel, where it can be read
	grid := plotter.NewGrid()
	grid.Horizontal.Color, grid.Vertical.Color = gridColor, gridColor
	p.Add(grid)
	return &chart{Plot: p, x: x, y: y, legend: legend}
}

func setAxis(to *plot.Axis, a axis) {
	to.Label.Text = a.label
	to.Label.TextStyle.Font = sans(textSize)
	to.Label.TextStyle.Color = inkColor
	to.Label.Padding = vg.Points(4)
	to.Tick.Label.Font = sans(textSize - 1)
	to.Tick.Label.Color = inkColor
	to.Tick.Length = vg.Points(4)
	to.Padding = 0
	if a.log {
		to.Scale = plot.LogScale{}
		to.Tick.Marker = logTicks{}
	} else {
		to.Min = 0
	}
	if len(a.at) > 0 {
		var ticks plot.ConstantTicks
		for _, v := range a.at {
			ticks = append(ticks, plot.Tick{Value: v, Label: a.write(v)})
		}
		to.Tick.Marker = ticks
	}
}

func sans(size font.Length) font.Font {
	return font.Font{Typeface: plot.DefaultFont.Typeface, Variant: "Sans", Size: size}
}

// line draws medians joined by a line, with bars from the lowest to the highest value. The points are
// by what they are in the order of.
func (c *chart) line(name string, s style, values map[float64]plotter.XYs) error {
	var xyers []plotter.XYer
	for _, at := range slices.Sorted(maps.Keys(values)) {
		xyers = append(xyers, values[at])
	}
	points, err := plotutil.NewErrorPoints(plotutil.MedianAndMinMax, xyers...)
	if err != nil {
		return err
	}
	joined, glyphs, err := plotter.NewLinePoints(points)
	if err != nil {
		return err
	}
	bars, err := plotter.NewYErrorBars(points)
	if err != nil {
		return err
	}
	joined.LineStyle = draw.LineStyle{Color: s.color, Width: vg.Points(1.6), Dashes: s.dash}
	glyphs.GlyphStyle = draw.GlyphStyle{Color: s.color, Radius: vg.Points(2.8), Shape: s.shape}
	bars.LineStyle = draw.LineStyle{Color: s.color, Width: vg.Points(0.7)}
	bars.CapWidth = vg.Points(4)
	c.Add(bars, joined, glyphs)
	c.explain(name, joined, glyphs)
	return nil
}

func (c *chart) explain(name string, thumbs ...plot.Thumbnailer) {
	c.legend.Add(name, thumbs...)
	c.rows++
}

// widen leaves some room around what is drawn.
func (c *chart) widen() {
	for a, of := range map[*plot.Axis]axis{&c.X: c.x, &c.Y: c.y} {
		switch {
		case of.log:
			by := math.Pow(a.Max/a.Min, 0.04)
			a.Min, a.Max = a.Min/by, a.Max*by
		case a.Min == 0:
			a.Max *= 1.08
		}
	}
}

const (
	panelWidth   = 4.6 * vg.Inch
	panelHeight  = 3.3 * vg.Inch
	titleHeight  = 0.36 * vg.Inch
	legendHeight = 13 * vg.Length(1) // of a row, and of the heading
	margin       = 0.12 * vg.Inch
)

// saveSVG puts the panels in a row under a title, each under its heading and its legend.
func saveSVG(name, title string, panels []*chart) error {
	rows := 0
	row := make([]*plot.Plot, len(panels))
	for i, p := range panels {
		p.widen()
		row[i] = p.Plot
		rows = max(rows, p.rows)
	}
	top := titleHeight + legendHeight*vg.Length(rows+1) + 2*margin
	width := panelWidth * vg.Length(len(panels))
	canvas := vgsvg.New(width, panelHeight+top)
	all := draw.New(canvas)
	canvas.SetColor(color.White)
	canvas.Fill(all.Rectangle.Path())
	heading := text.Style{
		Color: inkColor, Font: sans(titleSize), Handler: plot.DefaultTextHandler, XAlign: draw.XCenter, YAlign: draw.YTop,
	}
	all.FillText(heading, vg.Point{X: width / 2, Y: all.Max.Y - margin}, title)
	heading.Font, heading.XAlign = sans(textSize+1), draw.XLeft
	tiles := draw.Tiles{
		Rows: 1, Cols: len(row), PadX: 2 * margin,
		PadLeft: margin, PadRight: 2 * margin, PadBottom: margin, PadTop: top,
	}
	for i, c := range plot.Align([][]*plot.Plot{row}, tiles, all)[0] {
		row[i].Draw(c)
		above := row[i].DataCanvas(c)
		above.Max.Y = all.Max.Y - titleHeight - margin/2
		above.FillText(heading, vg.Point{X: above.Min.X, Y: above.Max.Y}, panels[i].y.label)
		above.Max.Y -= legendHeight + margin/2
		panels[i].legend.Draw(above)
	}
	var b bytes.Buffer
	if _, err := canvas.WriteTo(&b); err != nil {
		return err
	}
	return os.WriteFile(name, withFallback(b.Bytes()), 0o644)
}

// withFallback names fonts with the same widths for readers who lack the one that was drawn with.
func withFallback(svg []byte) []byte {
	return bytes.ReplaceAll(svg, []byte("font-family:Liberation Sans;"),
		[]byte("font-family:'Liberation Sans',Arial,Helvetica,sans-serif;"))
}

// logTicks labels 1, 2 and 5 of a decade where there are few decades, else each power of ten.
type logTicks struct{}

// Ticks implements plot.Ticker.
func (logTicks) Ticks(lowest, highest float64) (ticks []plot.Tick) {
	few := highest/lowest < 200
	for e := math.Floor(math.Log10(lowest)); math.Pow(10, e) <= highest; e++ {
		for m := 1.0; m < 10; m++ {
			v := m * math.Pow(10, e)
			if v < lowest*0.999 || v > highest*1.001 {
				continue
			}
			tick := plot.Tick{Value: v}
			if m == 1 || few && (m == 2 || m == 5) {
				tick.Label = short(v)
			}
			ticks = append(ticks, tick)
		}
	}
	return ticks
}

// short writes a number with three digits, thousands as k.
func short(v float64) string {
	if v >= 1000 {
		return fmt.Sprintf("%.3gk", v/1000)
	}
	return fmt.Sprintf("%.3g", v)
}

// shortBytes does the same for bytes.
func shortBytes(v float64) string {
	if v >= 1<<10 {
		return fmt.Sprintf("%.3gKi", v/(1<<10))
	}
	return fmt.Sprintf("%.3g", v)
}
