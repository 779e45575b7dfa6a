package http2

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/pillion-proxy/pillion/proxy"
	"golang.org/x/net/http2/hpack"
)

// decodeBoth decodes blocks, cut into pieces, with our decoder and with x/net's, and fails unless they agree: on the fields, and on
// which blocks are broken. It reports whether all were whole.
func decodeBoth(t *testing.T, blocks [][]byte, cut int) bool {
	const most = 1 << 10
	var ours headDecoder
	ours.init(most)
	var got, want proxy.Fields
	theirs := hpack.NewDecoder(defaultHeaderTableSize, func(f hpack.HeaderField) {
		want = append(want, proxy.Field{Name: f.Name, Value: f.Value})
	})
	theirs.SetMaxStringLength(ours.maxString())
	for n, b := range blocks {
		ours.begin()
		got, want = nil, nil
		var ourErr, theirErr error
		for p := range slices.Chunk(b, max(1, cut)) {
			if ourErr = ours.write(p); ourErr != nil {
				break
			}
		}
		for p := range slices.Chunk(b, max(1, cut)) {
			if _, theirErr = theirs.Write(p); theirErr != nil {
				break
			}
		}
		if ourErr == nil {
			ourErr = ours.finish()
		}
		if theirErr == nil {
			theirErr = theirs.Close()
		}
		if theirErr != nil && strings.Contains(theirErr.Error(), "MUST occur at the beginning") {
			return true // x/net takes one update at the beginning of a block; RFC 7541 section 4.2 has two
		}
		if (ourErr == nil) != (theirErr == nil) {
			t.Fatalf("block %d, %x: we say %v, x/net %v", n, b, ourErr, theirErr)
		}
		if ourErr != nil {
			return false
		}
		got = slices.Clone(ours.Fields)
		if ours.TooLarge || ours.Bad != "" {
			continue
		}
		var names proxy.Names
		for _, f := range got {
			names |= proxy.NamesOf(f.Name)
		}
		if ours.Names != names {
			t.Fatalf("block %d, %x: fields %v, names %b, want %b", n, b, got, ours.Names, names)
		}
		want = slices.DeleteFunc(want, func(f proxy.Field) bool {
			return strings.HasPrefix(f.Name, ":") || strings.EqualFold(f.Name, "content-length")
		})
		if !slices.Equal(got, want) {
			t.Fatalf("block %d, %x:\ngot  %v\nwant %v", n, b, got, want)
		}
	}
	return true
}

// TestDecoderAgreesWithXNet has x/net's encoder make blocks of all kinds of representations.
func TestDecoderAgreesWithXNet(t *testing.T) {
	for seed := range uint64(60) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		var out strings.Builder
		enc := hpack.NewEncoder(&out)
		var blocks [][]byte
		for range 80 {
			out.Reset()
			if rnd.IntN(15) == 0 {
				enc.SetMaxDynamicTableSize(uint32(rnd.IntN(defaultHeaderTableSize + 1)))
			}
			for range rnd.IntN(12) {
				name := []string{"x-a", "x-b", "server", "cookie", "content-type", "via"}[rnd.IntN(6)]
				value := strings.Repeat(fmt.Sprint("v", rnd.IntN(5)), rnd.IntN(20))
				enc.WriteField(hpack.HeaderField{Name: name, Value: value, Sensitive: rnd.IntN(8) == 0})
			}
			blocks = append(blocks, []byte(out.String()))
		}
		if !decodeBoth(t, blocks, 1+rnd.IntN(40)) {
			t.Errorf("seed %d: a block of x/net's encoder was refused", seed)
		}
	}
}

// Each entry of the static table is the one of x/net, and none is believed that the checks would refuse.
func TestStaticTable(t *testing.T) {
	for i := range staticTable {
		f, err := hpack.NewDecoder(0, nil).DecodeFull(appendVarInt(nil, 0x80, 7, uint64(i+1)))
		e := &staticTable[i]
		if err != nil || len(f) != 1 || f[0].Name != e.name || f[0].Value != e.value {
			t.Errorf("entry %d is %s: %q, want %v (%v)", i+1, e.name, e.value, f, err)
		}
		var d headDecoder
		checked := tableEntry{name: e.name, value: e.value}
		if d.classify(&checked); e.kind != entryOther && (checked.kind != e.kind || checked.part != e.part) {
			t.Errorf("entry %d, %s, is of kind %d, want %d", i+1, e.name, e.kind, checked.kind)
		}
	}
}

// What an entry was found to be when it came must hold when it is used: what is not allowed is refused each time.
func TestDecoderChecksWhatIsIndexed(t *testing.T) {
	for _, c := range []struct{ name, value, want string }{
		{"x-a", "1", ""},
		{"X-A", "1", "bad field name"},
		{"connection", "close", "connection-specific field"},
		{"te", "gzip", "TE other than trailers"},
		{"x-a", "1\n", "bad field value"},
		{":unknown", "1", "unknown pseudo-header field"},
		{":reason", "Fine", "unknown pseudo-header field"},
	} {
		var d headDecoder
		d.init(1 << 10)
		block := appendHpackString(appendHpackString([]byte{0x40}, c.name), c.value)
		for range 3 {
			d.begin()
			if err := d.write(block); err != nil || d.Bad != c.want {
				t.Errorf("%s: %q with %x: %v, %q, want %q", c.name, c.value, block, err, d.Bad, c.want)
			}
			block = []byte{0x80 | staticEntries + 1}
		}
	}
	var d headDecoder
	d.init(1 << 10)
	d.setVerbatim(true)
	d.begin()
	if err := d.write(appendRaw(appendRaw([]byte{0x40}, "X-Upper"), "1")); err != nil || d.Bad != "" {
		t.Fatal(err, d.Bad)
	}
	d.setVerbatim(false)
	d.begin()
	if err := d.write([]byte{0x80 | staticEntries + 1}); err != nil || d.Bad == "" {
		t.Errorf("an entry that is allowed no more was taken: %v, %q", err, d.Bad)
	}
}

// FuzzDecoder compares with x/net's decoder on arbitrary blocks.
func FuzzDecoder(f *testing.F) {
	f.Add([]byte("\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff"), []byte("\xbe\x40\x01a\x01b"), 3)
	f.Add([]byte("\x3f\xe1\x1f\x40\x03x-a\x03abc\xbe"), []byte("\x20\x3f\xe1\x1f\xbe"), 100)
	f.Add([]byte("\x0f\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01\x01a"), []byte("\x10\x01a\x7f\x81\x10"), 1)
	f.Fuzz(func(t *testing.T, a, b []byte, cut int) {
		if len(a)+len(b) < 1<<10 {
			decodeBoth(t, [][]byte{a, b, a, b, a, a, a, b, b, b, a}, min(max(cut, 1), 1<<10))
		}
	})
}

// TestDecoderRemembers: what is remembered of how a block began is what decoding it again would give, whatever has come between.
func TestDecoderRemembers(t *testing.T) {
	for seed := range uint64(40) {
		rnd := rand.New(rand.NewPCG(seed, 8))
		var out []byte
		var e headEncoder
		e.init(&out)
		var keeps, forgets headDecoder
		keeps.init(400)
		forgets.init(400)
		used := 0
		for range 400 {
			switch rnd.IntN(60) {
			case 0:
				e.setTableSize(uint32(rnd.IntN(1000)))
			case 1:
				verbatim := rnd.IntN(2) == 0
				keeps.setVerbatim(verbatim)
				forgets.setVerbatim(verbatim)
			}
			out = out[:0]
			e.begin()
			e.method("GET")
			e.scheme("http")
			e.path([]string{"/", "/", "/a"}[rnd.IntN(3)])
			e.field(":authority", "orders")
			for range rnd.IntN(3) {
				f := []proxy.Field{{Name: "host", Value: "orders"}, {Name: "cookie", Value: "a"}, {Name: "content-length", Value: "3"}, {Name: "x-a", Value: "1"},
					{Name: "X-B", Value: "2"}, {Name: "expect", Value: "100-continue"}, {Name: ":path", Value: "/"}, {Name: "x-c", Value: strings.Repeat("c", 200)}}[rnd.IntN(8)]
				e.field(f.Name, f.Value)
			}
			cut := 1 + rnd.IntN(2*len(out))
			for _, d := range []*headDecoder{&keeps, &forgets} {
				d.begin()
				for p := range slices.Chunk(out, cut) {
					if err := d.write(p); err != nil {
						t.Fatal(err)
					}
				}
				if err := d.finish(); err != nil {
					t.Fatal(err)
				}
			}
			if keeps.memo.twice {
				used++
			}
			forgets.forget()
			if !reflect.DeepEqual(keeps.Decoder, forgets.Decoder) {
				t.Fatalf("seed %d, block %x:\nremembered %+v\ndecoded    %+v", seed, out, keeps.Decoder, forgets.Decoder)
			}
			if keeps.Request() != forgets.Request() || !reflect.DeepEqual(keeps.Decoder, forgets.Decoder) {
				t.Fatalf("seed %d, block %x: requests differ", seed, out)
			}
		}
		if used == 0 {
			t.Errorf("seed %d: nothing was remembered", seed)
		}
	}
}

// The same bytes mean something else once the table has changed. It has room for one of these entries.
func TestDecoderRemembersATable(t *testing.T) {
	var d headDecoder
	d.init(64 << 10)
	decode := func(block string) error {
		d.begin()
		if err := d.write([]byte(block)); err != nil {
			return err
		}
		return d.finish()
	}
	const again = "\x82\x86\x84\xbe"
	for _, name := range []string{"a", "b", "c"} {
		if err := decode(string(appendRaw(appendRaw([]byte{0x40}, name), strings.Repeat("v", 2100)))); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if err := decode(again); err != nil || len(d.Fields) != 1 || d.Fields[0].Name != name || d.Path != "/" {
				t.Fatalf("got %v, %v, want %s", d.Fields, err, name)
			}
		}
		if !d.memo.twice {
			t.Error("nothing was remembered")
		}
	}
	if err := decode("\x20"); err != nil {
		t.Fatal(err)
	}
	if err := decode(again); err != errHpackIndex {
		t.Errorf("an entry that was evicted was taken: %v, %v", d.Fields, err)
	}
}

func BenchmarkDecodeRecurring(b *testing.B) {
	var d headDecoder
	d.init(16 << 10)
	var out []byte
	var e headEncoder
	e.init(&out)
	for range 20 {
		out = out[:0]
		for i := range 10 {
			e.field(fmt.Sprint("x-thing-", i), "some value")
		}
		d.begin()
		if err := d.write(out); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		d.begin()
		if err := d.write(out); err != nil || len(d.Fields) != 10 {
			b.Fatal(err, len(d.Fields))
		}
	}
}
