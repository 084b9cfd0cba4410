package codec

import (
	"bytes"
	"encoding/json"
	"io"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// nesting returns how deep the arrays and objects of a valid JSON text go.
func nesting(t testing.TB, data []byte) int {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber() // a float64 does not hold every valid number
	depth, deepest := 0, 0
	for {
		token, err := dec.Token()
		if err == io.EOF {
			return deepest
		}
		require.NoError(t, err)
		switch token {
		case json.Delim('['), json.Delim('{'):
			depth++
			deepest = max(deepest, depth)
		case json.Delim(']'), json.Delim('}'):
			depth--
		}
	}
}

// requireAgrees holds CheckJSON against encoding/json, which does not look at UTF-8 and nests deeper.
func requireAgrees(t testing.TB, data []byte) {
	t.Helper()
	want := utf8.Valid(data) && json.Valid(data) && nesting(t, data) <= MaxDepth
	err := CheckJSON(data)
	require.Equal(t, want, err == nil, "%.200q: %v", data, err)
	if err != nil {
		var syntax *SyntaxError
		require.ErrorAs(t, err, &syntax)
		require.GreaterOrEqual(t, syntax.Offset, 0)
		require.LessOrEqual(t, syntax.Offset, len(data))
		require.True(t, utf8.ValidString(syntax.Problem), "%q", syntax.Problem)
	}
}

// texts are examples of one rule.
type texts struct {
	rule  string
	texts []string
}

var notJSON = []texts{
	{"no value", []string{"", " ", "\n\t\r ", "\x00"}},
	{"numbers", []string{
		"01", "-01", "00", "-", "--1", "+1", "1.", "-1.", ".5", "-.5", "1.e1", "1e", "1E+", "1e-", "1e1.5",
		"1.2.3", "0x1", "1_000", "1,5", "- 1", "1 2", "1e 5", "1a", "1-", "Infinity", "-Infinity", "NaN",
		"-NaN", "inf", "１", /* a full-width digit */
	}},
	{"literals", []string{
		"tru", "truee", "True", "TRUE", "fals", "nul", "nulL", "undefined", "truefalse", "t", "[true", "nan",
	}},
	{"quotes", []string{`"`, `"abc`, `abc"`, `'a'`, `{'a':1}`, "`a`", `"a"b"`, `"a" "b"`, "“a”"}},
	{"escapes", []string{
		`"\"`, `"\`, `"\a"`, `"\v"`, `"\0"`, `"\'"`, `"\x41"`, `"\ "`, `"\é"`, `"\U0041"`, "\"\\\n\"",
		"\"\\\x00\"",
	}},
	{"hex", []string{
		`"\u"`, `"\u1"`, `"\u12"`, `"\u123"`, `"\u123g"`, `"\u 123"`, `"\u+123"`, `"\u{41}"`, `"\uÀ000"`,
		`"\u00`, `"\u123`, `"\ud800\u"`, `"\ud800\`,
	}},
	{"control bytes", []string{
		"\"a\x00b\"", "\"\x01\"", "\"\t\"", "\"\n\"", "\"\r\"", "\"\x1f\"", "{\"a\x08\":1}", "\x07", "[\x01]",
		"\"a long enough run\x1f\"",
	}},
	{"white space", []string{
		"\f1", "1\f", "[1,\f2]", "\v1", "\u00a01", "1\u00a0", "\u20281", "\ufeff1", "1\ufeff", "\u0085 1",
		"tr ue",
	}},
	{"comments", []string{"// a\n1", "1 // a", "/* a */1", "[1/**/]", "# a\n1", `{"a":1}/`}},
	{"arrays", []string{
		"[", "]", "[1", "[1,", "[1,]", "[,1]", "[,]", "[1,,2]", "[1 2]", "[1:2]", "[1}", "[]]", "[[]", "[1;2]",
		"[\"a\"", "[1],", "[...]", "()",
	}},
	{"objects", []string{
		"{", "}", `{"a"`, `{"a":`, `{"a":1`, `{"a":1,`, `{"a":1,}`, `{,}`, `{,"a":1}`, `{"a":1,,"b":2}`,
		`{"a" 1}`, `{"a"::1}`, `{"a","b"}`, `{a:1}`, `{1:1}`, `{null:1}`, `{"a":1 "b":2}`, `{"a":}`, `{:1}`,
		`{"a":1]`, `{}}`, `{"a"=1}`, `{"a":1:2}`, `{["a"]:1}`, `{{}}`, `{"a":1;}`,
	}},
	{"more than one", []string{"1,", "{} {}", "[] 1", `""""`, "null null", "1\x00", "{}\n,"}},
	{"broken UTF-8", []string{
		"\"\x80\"", "\"\xff\"", "\"\xfe\xff\"", "\"\xe2\x82\"", "\"\xe2\"", "\"\xf0\x9f\x98\"", "\"\xe2",
		"\xff", "{\"\xff\":1}", "[\"a long enough run before \xc3\"]",
	}},
	{"overlong UTF-8", []string{
		"\"\xc0\xaf\"", "\"\xc1\xbf\"", "\"\xe0\x80\xaf\"", "\"\xf0\x80\x80\xaf\"", "\"\xc0\x80\"",
		"\xc0\xa0" + "1",
	}},
	{"surrogate bytes", []string{"\"\xed\xa0\x80\"", "\"\xed\xbf\xbf\"", "\"\xed\xa0\xbd\xed\xb8\x80\""}},
	{"past U+10FFFF", []string{"\"\xf4\x90\x80\x80\"", "\"\xf8\x88\x80\x80\x80\""}},
	{"UTF-16 and BOM", []string{"\xff\xfe1\x00", "\xfe\xff\x001", "\xef\xbb\xbf{}", "\xef\xbb\xbf"}},
	{"too deep", []string{
		strings.Repeat("[", MaxDepth+1) + strings.Repeat("]", MaxDepth+1),
		strings.Repeat(`{"a":`, MaxDepth+1) + "1" + strings.Repeat("}", MaxDepth+1),
		strings.Repeat("[", 100_000), strings.Repeat(`[{"":`, 50_000),
	}},
}

var strictJSON = []texts{
	{"numbers", []string{
		"0", "-0", "1", "-1", "10", "0.0", "-0.0", "0.10", "1e5", "1E5", "1e+5", "1e-5", "1.5e-05", "0e0",
		"0e+00", "1e400" /* no float64 */, "12345678901234567890.000", strings.Repeat("9", 500),
	}},
	{"literals", []string{"true", "false", "null", " null ", "[true,false,null]"}},
	{"strings", []string{
		`""`, `"a"`, `"\"\\\/\b\f\n\r\t"`, `"\u0000"`, `"\u00e9\u00E9"`, `"é€😀"`,
		"\"\x7f\"" /* DEL needs no escape */, "\"\u2028\u2029\"", "\"\ufeff\"", "\"\ufffd\uffff\U0010ffff\"",
		`"/*"`, `"'"`, `"0123456\n01234567\n012345678\n"`,
	}},
	{"surrogates", []string{ // a lone escape is grammatical
		`"\ud83d\ude00"`, `"\ud800"`, `"\udc00\ud800"`, `"\ud800\ud800\udc00"`, `"\ud800a"`,
	}},
	{"arrays", []string{"[]", "[ ]", "[1]", "[1,2]", "[[],[[]],{}]", `["a", 1 ,null]`}},
	{"objects", []string{
		"{}", "{ }", `{"a":1}`, `{"":0}`, `{"a":1,"a":2}`, `{"\u0000":{"b":[{}]}}`,
		"{ \"a\" : 1 , \"b\" : 2 }",
	}},
	{"white space", []string{" 1", "1 ", "\t\n\r 1 \t\n\r", "[\n1\n,\r\n2\t]"}},
	{"deep enough", []string{
		strings.Repeat("[", MaxDepth) + strings.Repeat("]", MaxDepth),
		strings.Repeat(`{"a":`, MaxDepth) + "1" + strings.Repeat("}", MaxDepth),
		"[" + strings.Repeat("[],", 2*MaxDepth) + "[]]", // wide, not deep
		"[" + strings.Repeat(`{},[1],{"a":[1]},`, 2*MaxDepth) + "[]]",
	}},
}

func TestCheckJSONRefusesWhatIsNotStrictJSON(t *testing.T) {
	for _, c := range notJSON {
		t.Run(c.rule, func(t *testing.T) {
			for _, text := range c.texts {
				require.Error(t, CheckJSON([]byte(text)), "%.200q", text)
				requireAgrees(t, []byte(text))
			}
		})
	}
}

func TestCheckJSONTakesStrictJSON(t *testing.T) {
	for _, c := range strictJSON {
		t.Run(c.rule, func(t *testing.T) {
			for _, text := range c.texts {
				require.NoError(t, CheckJSON([]byte(text)), "%.200q", text)
				requireAgrees(t, []byte(text))
			}
		})
	}
}

// A string is read several bytes at a time: every byte has to be seen at every place in a string.
func TestCheckJSONSeesEveryByteOfAString(t *testing.T) {
	for length := range 20 {
		for at := range length {
			requireAgreesOnEveryByte(t, `"`+strings.Repeat("a", at), strings.Repeat("a", length-at-1)+`"`)
		}
	}
}

func TestCheckJSONKnowsEveryByteEverywhere(t *testing.T) {
	for _, text := range []string{
		"_", "_1", "1_", "-_", "1_1", "1._", "1e_", "1e_1", "1e-_", "t_ue", "[_]", "[1_]", "[1_2]", "[1,_1]",
		`{_}`, `{"a"_1}`, `{"a":_1}`, `{"a":1_}`, `{"a":1_"b":2}`, `{_"a":1}`, `"a"_`, `"\_"`, `"\_1234"`,
		`"\u_000"`, `"\u0_00"`, `"\u00_0"`, `"\u000_"`, "\"\xc3_\"", "\"\xed_\x80\"", "\"\xf4_\x80\x80\"",
	} {
		before, after, _ := strings.Cut(text, "_")
		requireAgreesOnEveryByte(t, before, after)
	}
}

func requireAgreesOnEveryByte(t *testing.T, before, after string) {
	t.Helper()
	for c := range 256 {
		requireAgrees(t, []byte(before+string([]byte{byte(c)})+after))
	}
}

func TestCheckJSONRefusesEveryCutText(t *testing.T) {
	text := []byte(`{"a":[1,-2.5e+3,true,false,null,"x\u00e9\n€"],"b":{"c":{}}}`)
	require.NoError(t, CheckJSON(text))
	for n := range text {
		require.Error(t, CheckJSON(text[:n]), "%q", text[:n])
		requireAgrees(t, text[:n])
	}
}

func TestCheckJSONSaysWhereAndWhat(t *testing.T) {
	for _, c := range []struct{ text, message string }{
		{"", "at byte 0: the text ends where a value was expected"},
		{"[1,", "at byte 3: the text ends where a value was expected"},
		{"[1,]", "at byte 3: ']' where a value was expected"},
		{"[1 2]", "at byte 3: '2' where ',' or ']' was expected"},
		{`{"a" 1}`, "at byte 5: '1' where ':' was expected"},
		{`{"a":1,}`, "at byte 7: '}' where a member name in double quotes was expected"},
		{`{"a":1 "b"}`, `at byte 7: '"' where ',' or '}' was expected`},
		{"{} {}", "at byte 3: '{' where the end of the text was expected"},
		{"01", "at byte 1: a number does not begin with 0 before another digit"},
		{"1.x", "at byte 2: 'x' where a digit was expected"},
		{"trUe", "at byte 2: 'U' where the literal true was expected"},
		{"\ufeff{}", `at byte 0: '\ufeff' where a value was expected`},
		{"1\x00", `at byte 1: '\x00' where the end of the text was expected`},
		{`"abc`, "at byte 4: the text ends inside a string"},
		{"\"a\nb\"", "at byte 2: control character 0x0a inside a string, write it as an escape"},
		{`"\a"`, `at byte 2: 'a' where one of "\/bfnrtu after a backslash was expected`},
		{`"\u12é4"`, `at byte 5: 'é' where a hexadecimal digit of a \u escape was expected`},
		{"{\"é\":\"\xe2\x82\"}", "at byte 7: invalid UTF-8"},
		{strings.Repeat("[", 600), "at byte 512: nested deeper than 512 levels"},
	} {
		require.EqualError(t, CheckJSON([]byte(c.text)), c.message, "%.40q", c.text)
	}
}

func TestCheckJSONDoesNotAllocate(t *testing.T) {
	if raceEnabled {
		return // the detector allocates; the tests run without it as well
	}
	text := []byte(`{"a":[1,-2.5e+3,true,false,null,"x\u00e9\n€"],"b":{"c":{}}}`)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		if err := CheckJSON(text); err != nil {
			t.Fatal(err)
		}
	}))
}

func FuzzCheckJSON(f *testing.F) {
	for _, c := range slices.Concat(notJSON, strictJSON) {
		for _, text := range c.texts {
			if len(text) < 1000 { // the deep ones would be most of what is mutated
				f.Add([]byte(text))
			}
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		requireAgrees(t, data)
	})
}
