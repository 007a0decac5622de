package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
	"strings"
)

const module = "rustmq.dev/rustmq/"

// floors orders the rooms from the ground up. A room imports only rooms on a
// lower floor, or itself. Names are folders; the longest match counts. Every package
// but main lies in one of them.
var floors = map[string]int{
	"storage/guard":      0,
	"storage":            1,
	"security":           1,
	"configs":            1,
	"sdk/go":             1,
	"sdk/go-etl":         1,
	"console":            1,
	"consensus/metadata": 2,
	"consensus":          2,
	"etl":                2,
	"transport":          2,
	"roles":              3,
	"embed":              4,
	"sdk/go/rustmqtest":  5, // a module of its own, as examples are: sdk/go knows no server
	"sdk/go/examples":    6,
	"bench":              5,
	"test":               5,
	"tools":              5,
	"deploy":             5,
}

// mayImport lists the imports between rooms of one floor, or across the walls
// of storage and security, that are allowed all the same.
var mayImport = map[string][]string{
	"transport": {"sdk/go/quic", "consensus"}, // transport/rpc carries raft's messages
	"bench":     {"test/apache"},              // a peer that the comparison starts too
}

// maxLines is how long a file may be, tests too.
const maxLines = 700

// engine is a C library of some megabytes, which takes seconds to link: who needs what it
// does declares an interface, and only these import it.
const engine = "etl/wasm"

var engineImporters = map[string]bool{engine: true, "roles": true, "roles/etl": true, ".": true}

// diskOnly are the rooms whose only door to files is storage/disk.
var diskOnly = []string{"storage", "consensus"}

func main() {
	root := "."
	if len(os.Args) > 1 {
		root = os.Args[1]
	}
	findings, err := lint(root)
	if err != nil {
		fmt.Fprintln(os.Stderr, "houselint:", err)
		os.Exit(2)
	}
	for _, f := range findings {
		fmt.Println(f)
	}
	if len(findings) > 0 {
		os.Exit(1)
	}
}

func lint(root string) ([]string, error) {
	var findings []string
	documented := map[string]bool{}
	packages := map[string]string{}
	tests := map[string]bool{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if path != root && (strings.HasPrefix(name, ".") || name == "node_modules" || name == "testdata" || name == "build" || name == "target") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		dir := pathDir(rel)
		if name == "doc.go" {
			documented[dir] = true
		}
		if !strings.HasSuffix(name, "_test.go") {
			if _, ok := packages[dir]; !ok {
				packages[dir] = rel
			}
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, path, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		findings = append(findings, checkFile(fset, file, rel)...)
		for _, decl := range file.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok && f.Recv == nil && strings.HasPrefix(f.Name.Name, "Test") {
				tests[f.Name.Name] = true
			}
		}
		return nil
	})
	for dir := range packages {
		if own, _ := room(dir); own == "" && dir != "." {
			findings = append(findings, packages[dir]+":1: "+dir+" lies in no room: give it a floor in tools/houselint, and a line in docs/architecture.md")
		}
		if !documented[dir] && dir != "." && dir != "storage" {
			findings = append(findings, packages[dir]+":1: package without a doc.go")
		}
	}
	if err == nil {
		var strangers []string
		strangers, err = checkNamedTests(root, tests)
		findings = append(findings, strangers...)
	}
	if err == nil {
		var unexplained []string
		unexplained, err = checkDependencies(root)
		findings = append(findings, unexplained...)
	}
	sort.Strings(findings)
	return findings, err
}

// checkNamedTests finds tests that pages name which live by them, and that are not there.
func checkNamedTests(root string, tests map[string]bool) ([]string, error) {
	var findings []string
	for _, page := range []string{"docs/architecture.md", "docs/threat-model.md"} {
		b, err := os.ReadFile(filepath.Join(root, page))
		if err != nil {
			return nil, err
		}
		for i, line := range strings.Split(string(b), "\n") {
			for _, name := range testName.FindAllString(line, -1) {
				if !tests[strings.Trim(name, "`")] {
					findings = append(findings, fmt.Sprintf("%s:%d: there is no test %s", page, i+1, name))
				}
			}
		}
	}
	return findings, nil
}

var testName = regexp.MustCompile("`Test[A-Za-z0-9_]+`")

var crate = regexp.MustCompile(`^([a-z0-9_-]+) = `)

// checkDependencies finds direct dependencies of the root module and of sdk/rust that
// docs/dependencies.md does not explain, and lines there of what is none.
func checkDependencies(root string) ([]string, error) {
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		return nil, err
	}
	cargo, err := os.ReadFile(filepath.Join(root, "sdk", "rust", "Cargo.toml"))
	if err != nil {
		return nil, err
	}
	page, err := os.ReadFile(filepath.Join(root, "docs", "dependencies.md"))
	if err != nil {
		return nil, err
	}
	var findings []string
	direct := map[string]bool{}
	needs := func(file string, line int, name string) {
		direct[name] = true
		if !strings.Contains(string(page), "\n| `"+name+"` |") {
			findings = append(findings, fmt.Sprintf("%s:%d: docs/dependencies.md does not say what %s is for", file, line, name))
		}
	}
	for i, line := range strings.Split(string(mod), "\n") {
		path, rest, _ := strings.Cut(strings.TrimPrefix(line, "\t"), " ")
		if strings.HasPrefix(line, "\t") && !strings.Contains(rest, "// indirect") {
			needs("go.mod", i+1, path)
		}
	}
	within := false
	for i, line := range strings.Split(string(cargo), "\n") {
		if strings.HasPrefix(line, "[") {
			within = line == "[dependencies]" || line == "[dev-dependencies]"
		}
		if name := crate.FindStringSubmatch(line); within && name != nil {
			needs("sdk/rust/Cargo.toml", i+1, name[1])
		}
	}
	for i, line := range strings.Split(string(page), "\n") {
		name, rest, found := strings.Cut(strings.TrimPrefix(line, "| `"), "` |")
		if found && strings.HasPrefix(line, "| `") && strings.Contains(rest, "|") && !direct[name] {
			findings = append(findings, fmt.Sprintf("docs/dependencies.md:%d: %s is not a direct dependency", i+1, name))
		}
	}
	return findings, nil
}

func pathDir(rel string) string {
	if i := strings.LastIndexByte(rel, '/'); i >= 0 {
		return rel[:i]
	}
	return "."
}

// room returns the longest name in floors that dir lies in.
func room(dir string) (string, int) {
	for d := dir; d != "."; d = pathDir(d) {
		if floor, ok := floors[d]; ok {
			return d, floor
		}
	}
	return "", 9
}

func checkFile(fset *token.FileSet, file *ast.File, rel string) []string {
	var out []string
	dir := pathDir(rel)
	test := strings.HasSuffix(rel, "_test.go")
	at := func(p token.Pos, msg string) {
		out = append(out, fmt.Sprintf("%s:%d: %s", rel, fset.Position(p).Line, msg))
	}
	if lines := fset.File(file.Pos()).LineCount(); lines > maxLines && !ast.IsGenerated(file) {
		out = append(out, fmt.Sprintf("%s:%d: more than %d lines: take something out", rel, lines, maxLines))
	}
	own, floor := room(dir)
	imports := map[string]string{}
	for _, spec := range file.Imports {
		path, _ := strconv.Unquote(spec.Path.Value)
		imports[importName(spec, path)] = path
		if path == module+engine && !engineImporters[dir] && !test {
			at(spec.Pos(), engine+" links wasmtime: only roles and roles/etl import it, others call it through etl/pipeline's Transformer")
		}
		if !strings.HasPrefix(path, module) || own == "" || test {
			continue
		}
		target := strings.TrimPrefix(path, module)
		other, otherFloor := room(target)
		if other == own {
			continue
		}
		if otherFloor < floor || allowed(own, target) {
			continue
		}
		at(spec.Pos(), fmt.Sprintf("%s imports %s, which lies above it or beside it (imports point down: roles, transport, consensus, security, storage)", own, target))
	}
	restricted := false
	for _, d := range diskOnly {
		restricted = restricted || (strings.HasPrefix(dir+"/", d+"/") && dir != "storage/disk" && dir != "storage/guard")
	}
	generated := strings.HasSuffix(rel, ".pb.go")
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			ident, ok := n.X.(*ast.Ident)
			if !ok || ident.Obj != nil {
				return true
			}
			switch imports[ident.Name] {
			case "os":
				if restricted && !test {
					at(n.Pos(), "os."+n.Sel.Name+": files of storage and consensus are reached through storage/disk")
				}
			case "time":
				if test && n.Sel.Name == "Sleep" && !usesSynctest(imports) {
					at(n.Pos(), "time.Sleep in a test: wait for the event, or use testing/synctest")
				}
			}
		case *ast.FuncDecl:
			if n.Name.Name == "init" && n.Recv == nil && !generated {
				at(n.Pos(), "func init: state comes in through constructors")
			}
		}
		return true
	})
	return out
}

func top(room string) string {
	first, _, _ := strings.Cut(room, "/")
	return first
}

func allowed(own, target string) bool {
	for _, a := range mayImport[top(own)] {
		if a == target {
			return true
		}
	}
	return false
}

func usesSynctest(imports map[string]string) bool {
	for _, path := range imports {
		if path == "testing/synctest" {
			return true
		}
	}
	return false
}

func importName(spec *ast.ImportSpec, path string) string {
	if spec.Name != nil {
		return spec.Name.Name
	}
	return path[strings.LastIndexByte(path, '/')+1:]
}
