package arch

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// allowed says which of our packages each package may import. A pattern dir/* stands for the folders right below dir. A new
// package adds its own line: that it exists is a decision. Tests may also import siptest, mediatest and their own folder.
var allowed = map[string][]string{
	"transcode":      {"transcode/*"},
	"transcode/g711": nil,
	"transcode/g722": nil,
	"transcode/g726": nil,
	"transcode/opus": nil,

	"nat":     nil,
	"nat/ice": {"nat"},

	"media":           {"media/*", "transcode", "transcode/g711", "nat", "nat/ice"},
	"media/ng":        nil,
	"media/sdp":       nil,
	"media/udp":       nil,
	"media/xdp":       nil,
	"media/mediatest": {"transcode/*", "media/sdp"},

	"sip":           {"sip/*", "media/ng", "nat"},
	"sip/message":   nil,
	"sip/transport": nil,
	"sip/auth":      nil,
	"sip/accounts":  {"sip/auth"},
	"sip/dispatch":  nil,
	"sip/siptest":   {"media/sdp"},

	"bridge":            {"bridge/ari", "internal/store"},
	"bridge/ari":        nil,
	"bridge/aritest":    {"sip/siptest"},
	"bridge/bridgetest": {"sip/siptest", "media/mediatest", "transcode/g711"},
	"bridge/mixer":      nil,
	"bridge/farm":       {"bridge/ari", "bridge/mixer", "media/sdp", "media/udp", "transcode/g711", "sip/auth"},

	"recovery":       {"recovery/*", "bridge", "media/sdp", "internal/store"},
	"recovery/hep":   nil,
	"recovery/homer": {"recovery/hep", "internal/store"},

	"deploy/asterisk": {"transcode/g711"},

	"internal/arch":    nil,
	"internal/config":  nil,
	"internal/obs":     nil,
	"internal/simnet":  nil,
	"internal/store":   nil,
	"internal/testrun": nil,

	"web": nil,

	"cmd/rtcedge":    {"*"},
	"bench/rawphone": nil,
	"bench/lab":      {"bench/rawphone", "e2e/farms", "internal/store", "recovery"},
	"bench/crash":    {"bench/lab", "bench/rawphone", "e2e/farms", "internal/store", "recovery/hep"},
	"bench/demo":     {"sip/siptest", "media/mediatest", "media/sdp", "transcode/*"},
	"bench/meter":    nil,
	"bench/sipload":  {"bench/meter"},
	"bench/rtpload":  {"bench/meter", "media/ng", "media/sdp", "media/mediatest", "transcode/*"},
	"bench/farms":    {"e2e/farms"},
	"bench/farmload": {"bench/meter", "bench/rawphone", "e2e/farms", "internal/store", "sip/siptest", "transcode/*"},
	"e2e/farms":      nil,
	"e2e":            {"e2e/farms", "bridge/bridgetest", "internal/store", "bench/rawphone", "bench/lab", "sip/siptest", "media/mediatest", "media/ng", "media/sdp", "transcode/*"},
}

// testOnly may be imported by the tests of any package: the strangers, the simulated network, what runs a part until the test ends, and the tables that tones are measured with.
var testOnly = []string{"sip/siptest", "media/mediatest", "internal/simnet", "internal/testrun", "transcode/g711", "bridge/aritest", "bridge/bridgetest"}

const module = "rtcedge/"

type source struct {
	dir, file string
	test      bool
	doc       bool // has a package comment
	imports   []string
}

// TestImports parses the files itself: a child `go list` would stay green from the test cache.
func TestImports(t *testing.T) {
	seen := map[string]bool{}
	for _, src := range sources(t) {
		seen[src.dir] = true
		may, known := allowed[src.dir]
		if !known {
			t.Errorf("%s: folder %s has no line in the allow-list of internal/arch", src.file, src.dir)
			continue
		}
		for _, imp := range src.imports {
			if src.test && (slices.Contains(testOnly, imp) || imp == src.dir || slices.Contains(may, imp)) {
				continue
			}
			if !slices.ContainsFunc(may, func(p string) bool { return matches(p, imp) }) {
				t.Errorf("%s: %s imports %s, which its line in internal/arch does not allow", src.file, src.dir, imp)
			}
		}
	}
	for dir := range allowed {
		if !seen[dir] {
			t.Errorf("the allow-list names %s, which does not exist", dir)
		}
	}
}

// TestPackageDoc wants a comment that says what each package is.
func TestPackageDoc(t *testing.T) {
	has := map[string]bool{}
	for _, src := range sources(t) {
		if !src.test {
			has[src.dir] = has[src.dir] || src.doc
		}
	}
	for dir, doc := range has {
		if !doc {
			t.Errorf("%s has no package comment", dir)
		}
	}
}

func matches(pattern, imp string) bool {
	if pattern == "*" || pattern == imp {
		return true
	}
	dir, star := strings.CutSuffix(pattern, "/*")
	return star && path.Dir(imp) == dir
}

func sources(t *testing.T) []source {
	t.Helper()
	root := filepath.Join("..", "..")
	var out []source
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if base := d.Name(); base == "testdata" || (strings.HasPrefix(base, ".") && name != root) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		out = append(out, source{dir: filepath.ToSlash(filepath.Dir(rel)), file: rel, test: strings.HasSuffix(name, "_test.go"),
			doc: f.Doc != nil, imports: ours(f)})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func ours(f *ast.File) []string {
	var out []string
	for _, spec := range f.Imports {
		if imp, err := strconv.Unquote(spec.Path.Value); err == nil {
			if dir, is := strings.CutPrefix(imp, module); is {
				out = append(out, dir)
			}
		}
	}
	return out
}
