//go:build packages

package packages

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// instruction is one of a Dockerfile.
type instruction struct {
	line  int
	name  string
	flags [][2]string // name, value
	args  string
}

func (i instruction) errorf(format string, args ...any) error {
	return fmt.Errorf("line %d, %s: %s", i.line, i.name, fmt.Sprintf(format, args...))
}

// parseDockerfile reads comments, continued lines and flags.
func parseDockerfile(text string) (all []instruction, err error) {
	lines := strings.Split(text, "\n")
	for n := 0; n < len(lines); n++ {
		line := strings.TrimSpace(lines[n])
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		at := instruction{line: n + 1}
		for strings.HasSuffix(line, `\`) {
			if n++; n == len(lines) {
				return nil, at.errorf("the file ends in it")
			}
			line = strings.TrimSuffix(line, `\`) + " " + strings.TrimSpace(lines[n])
		}
		name, rest, _ := strings.Cut(line, " ")
		at.name, rest = strings.ToUpper(name), strings.TrimSpace(rest)
		for strings.HasPrefix(rest, "--") {
			flag, after, _ := strings.Cut(rest, " ")
			key, value, _ := strings.Cut(strings.TrimPrefix(flag, "--"), "=")
			at.flags, rest = append(at.flags, [2]string{key, value}), strings.TrimSpace(after)
		}
		at.args = rest
		all = append(all, at)
	}
	return all, nil
}

// image is a root file system, and how it is run.
type image struct {
	root       string
	env        []string
	dir, user  string
	entrypoint []string
	command    []string
	health     []string
	exposed    []string
	volumes    []string
	stopSignal string
	labels     map[string]string
}

// base is what a FROM that names no stage begins with: layers, and the environment.
type base struct {
	layers []string
	env    []string
	mounts [][2]string // from, to: what the image has and no layer
}

// builder builds the stages of one file.
type builder struct {
	rig     *rig
	context string
	bases   map[string]base
	args    map[string]string // --build-arg
	caches  map[string]string // targets of cache mounts, and what is there already

	stages map[string]*image
	stage  *image
	given  map[string]string // args of the stage
	count  int
}

// build interprets a Dockerfile and returns its last stage.
func (b *builder) build(t *testing.T, text string) *image {
	t.Helper()
	all, err := parseDockerfile(text)
	must(t, err)
	b.stages = map[string]*image{}
	for _, i := range all {
		if err := b.step(t, i); err != nil {
			t.Fatalf("Dockerfile: %v", err)
		}
	}
	return b.stage
}

func (b *builder) step(t *testing.T, i instruction) error {
	t.Helper()
	if b.stage == nil && i.name != "FROM" {
		return i.errorf("before FROM, which is not known here")
	}
	switch i.name {
	case "COPY", "RUN", "HEALTHCHECK":
	default:
		if len(i.flags) > 0 {
			return i.errorf("flag --%s is not known", i.flags[0][0])
		}
	}
	switch i.name {
	case "FROM":
		return b.from(t, i)
	case "ARG":
		name, value, _ := strings.Cut(i.args, "=")
		if given, ok := b.args[name]; ok {
			value = given
		}
		b.given[name] = value
	case "ENV":
		for _, pair := range words(b.expand(i.args)) {
			b.stage.env = append(b.stage.env, pair)
		}
	case "LABEL":
		for _, pair := range words(b.expand(i.args)) {
			key, value, _ := strings.Cut(pair, "=")
			b.stage.labels[key] = value
		}
	case "WORKDIR":
		b.stage.dir = i.args
		return os.MkdirAll(filepath.Join(b.stage.root, i.args), 0o755)
	case "USER":
		b.stage.user = i.args
	case "VOLUME":
		b.stage.volumes = append(b.stage.volumes, strings.Fields(i.args)...)
	case "EXPOSE":
		b.stage.exposed = append(b.stage.exposed, strings.Fields(i.args)...)
	case "STOPSIGNAL":
		b.stage.stopSignal = i.args
	case "ENTRYPOINT":
		return execForm(i, i.args, &b.stage.entrypoint)
	case "CMD":
		return execForm(i, i.args, &b.stage.command)
	case "HEALTHCHECK":
		text, isCommand := strings.CutPrefix(i.args, "CMD ")
		if !isCommand {
			return i.errorf("want CMD")
		}
		return execForm(i, text, &b.stage.health)
	case "COPY":
		return b.copy(t, i)
	case "RUN":
		return b.run(t, i)
	default:
		return i.errorf("not known here")
	}
	return nil
}

// execForm reads a command in the form of exec: without a shell, which the image lacks.
func execForm(i instruction, text string, into *[]string) error {
	if err := json.Unmarshal([]byte(text), into); err != nil {
		return i.errorf("want [\"program\", \"argument\"]: %v", err)
	}
	return nil
}

func (b *builder) from(t *testing.T, i instruction) error {
	t.Helper()
	name, stage, _ := strings.Cut(i.args, " AS ")
	b.count++
	next := &image{labels: map[string]string{}, dir: "/", user: "0:0"}
	if name == "scratch" {
		next.root = b.rig.dir(t, fmt.Sprintf("stage-%d", b.count))
	} else {
		from, known := b.bases[name]
		if !known {
			return i.errorf("the image %s is not known here", name)
		}
		next.root = b.rig.overlay(t, fmt.Sprintf("stage-%d", b.count), from.layers...)
		next.env = slices.Clone(from.env)
		for _, m := range from.mounts {
			bind(t, m[0], filepath.Join(next.root, m[1]), true)
		}
	}
	b.stage, b.given = next, map[string]string{}
	if stage != "" {
		b.stages[stage] = next
	}
	return nil
}

// expand fills in arguments and variables.
func (b *builder) expand(text string) string {
	return os.Expand(text, func(name string) string {
		for _, pair := range slices.Backward(b.stage.env) {
			if key, value, _ := strings.Cut(pair, "="); key == name {
				return value
			}
		}
		return b.given[name]
	})
}

// words splits at spaces, but not within double quotes.
func words(text string) (all []string) {
	quoted := false
	var word strings.Builder
	for _, c := range text + " " {
		switch {
		case c == '"':
			quoted = !quoted
		case (c == ' ' || c == '\t') && !quoted:
			if word.Len() > 0 {
				all = append(all, word.String())
				word.Reset()
			}
		default:
			word.WriteRune(c)
		}
	}
	return all
}

// copy is COPY: the contents of a directory, or a file. Whose a directory is that is there
// already stays as it is.
func (b *builder) copy(t *testing.T, i instruction) error {
	t.Helper()
	source, uid, gid := "", 0, 0
	for _, flag := range i.flags {
		switch flag[0] {
		case "from":
			stage, known := b.stages[flag[1]]
			if !known {
				return i.errorf("there is no stage %s", flag[1])
			}
			source = stage.root
		case "chown":
			user, group, _ := strings.Cut(flag[1], ":")
			var wrong, wrongGroup error
			uid, wrong = strconv.Atoi(user)
			gid, wrongGroup = strconv.Atoi(group)
			if err := errors.Join(wrong, wrongGroup); err != nil {
				return i.errorf("--chown=%s: want numbers, for names are of one image", flag[1])
			}
		default:
			return i.errorf("flag --%s is not known", flag[0])
		}
	}
	fields := strings.Fields(i.args)
	if len(fields) != 2 {
		return i.errorf("want one source and one destination")
	}
	to := fields[1]
	if !path.IsAbs(to) {
		to = path.Join(b.stage.dir, to)
	}
	var ignored func(string) bool
	if source == "" {
		ignore, err := os.ReadFile(filepath.Join(b.context, ".dockerignore"))
		if err != nil {
			return err
		}
		if ignored, err = parseIgnore(string(ignore)); err != nil {
			return err
		}
		source = b.context
	}
	from, target := filepath.Join(source, fields[0]), filepath.Join(b.stage.root, to)
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return i.errorf("files alone are not known here")
	}
	return filepath.WalkDir(from, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, name)
		if err != nil {
			return err
		}
		if ignored != nil && rel != "." && ignored(rel) {
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		return place(name, filepath.Join(target, rel), entry, uid, gid)
	})
}

// place copies one file, link or directory, with mode and time.
func place(from, to string, entry fs.DirEntry, uid, gid int) error {
	info, err := entry.Info()
	if err != nil {
		return err
	}
	switch {
	case entry.IsDir():
		if _, err := os.Stat(to); err == nil {
			return nil
		}
		if err := os.MkdirAll(to, 0o755); err != nil {
			return err
		}
	case info.Mode()&fs.ModeSymlink != 0:
		link, err := os.Readlink(from)
		if err != nil {
			return err
		}
		if err := os.Symlink(link, to); err != nil {
			return err
		}
		return os.Lchown(to, uid, gid)
	case info.Mode().IsRegular():
		raw, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		if err := os.WriteFile(to, raw, 0o600); err != nil {
			return err
		}
	default:
		return fmt.Errorf("%s is neither a file nor a directory", from)
	}
	mode := info.Mode() & (fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky)
	if err := errors.Join(os.Lchown(to, uid, gid), os.Chmod(to, mode)); err != nil {
		return err
	}
	return os.Chtimes(to, info.ModTime(), info.ModTime())
}

// parseIgnore reads a .dockerignore whose lines are paths, or **/ and one pattern.
func parseIgnore(text string) (func(string) bool, error) {
	exact, anywhere := map[string]bool{}, []string(nil)
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		below, deep := strings.CutPrefix(line, "**/")
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case deep && !strings.Contains(below, "/"):
			anywhere = append(anywhere, below)
		case strings.ContainsAny(line, "*?[!"):
			return nil, fmt.Errorf(".dockerignore: %q is not known here", line)
		default:
			exact[line] = true
		}
	}
	return func(rel string) bool {
		return exact[rel] || slices.ContainsFunc(anywhere, func(pattern string) bool {
			matched, _ := path.Match(pattern, path.Base(rel)) // constant, and tried at each build
			return matched
		})
	}, nil
}

// run is RUN: by a shell in the stage's root, with the caches that there are.
func (b *builder) run(t *testing.T, i instruction) error {
	t.Helper()
	for _, flag := range i.flags {
		target, isCache := strings.CutPrefix(flag[1], "type=cache,target=")
		cache, known := b.caches[target]
		if flag[0] != "mount" || !isCache || !known {
			return i.errorf("flag --%s=%s is not known", flag[0], flag[1])
		}
		bind(t, cache, filepath.Join(b.stage.root, target), false)
	}
	mount(t, "proc", filepath.Join(b.stage.root, "proc"), "")
	devices(t, b.stage.root)
	env := slices.Clone(b.stage.env)
	for name, value := range b.given {
		env = append(env, name+"="+value)
	}
	cmd := in(b.stage.root, env, "/bin/sh", "-c", i.args)
	cmd.Dir = b.stage.dir
	out(t, cmd)
	return nil
}

// TestDockerfilesAreRefused that say what is not interpreted: it would not be tested.
func TestDockerfilesAreRefused(t *testing.T) {
	for text, want := range map[string]string{
		"RUN true":                                  "before FROM",
		"FROM debian:12":                            "not known here",
		"FROM scratch\nADD x /y":                    "line 2, ADD: not known here",
		"FROM scratch\nCOPY --link . .":             "flag --link",
		"FROM scratch\nUSER --x 1":                  "flag --x",
		"FROM scratch\nCOPY --from=a / /":           "no stage a",
		"FROM scratch\nCOPY --chown=me:me . /":      "want numbers",
		"FROM scratch\nRUN --network=host true":     "flag --network",
		"FROM scratch\nRUN --mount=type=secret x":   "flag --mount",
		"FROM scratch\nENTRYPOINT rustmq":           "want [",
		"FROM scratch\nCMD rustmq":                  "want [",
		"FROM scratch\nHEALTHCHECK NONE":            "want CMD",
		"FROM scratch\nCOPY a b c":                  "one source",
		"FROM scratch\nONBUILD RUN true":            "not known here",
		"FROM scratch\nSHELL [\"/bin/sh\", \"-c\"]": "not known here",
	} {
		b := &builder{rig: &rig{work: t.TempDir()}, stages: map[string]*image{}}
		all, err := parseDockerfile(text)
		must(t, err)
		for _, i := range all {
			if err = b.step(t, i); err != nil {
				break
			}
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	for _, text := range []string{"a*", "!kept", "a/**/b"} {
		if _, err := parseIgnore(text); err == nil {
			t.Errorf(".dockerignore %q is taken", text)
		}
	}
}
