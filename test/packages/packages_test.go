//go:build packages

package packages

import (
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// The versions that are made here: the second is an upgrade of the first.
const (
	version = "0.1.0"
	later   = "0.2.0"
)

// release is what scripts/release.sh has made.
type release struct {
	dir    string
	binary string
}

// file is the one of a kind, by what its name ends with.
func (r release) file(t *testing.T, suffix string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(r.dir, "*"+suffix))
	must(t, err)
	if len(found) != 1 {
		t.Fatalf("%s has %v of *%s", r.dir, found, suffix)
	}
	return found[0]
}

func TestPackages(t *testing.T) {
	rig := newRig(t)
	must(t, unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""))
	epoch := out(t, rig.command(nil, "git", "log", "-1", "--format=%ct"))

	// What both embed is built before.
	if strings.Contains(read(t, filepath.Join(rig.repo, "Makefile")), "\nconsole:") {
		out(t, rig.command(nil, "make", "-s", "console"))
	}
	first := release{dir: rig.dir(t, "release")}
	first.binary = filepath.Join(first.dir, "bin/rustmq")
	var built *image // its last stage is a directory, which stays when what is mounted is gone
	t.Run("made", func(t *testing.T) {
		t.Run("release", func(t *testing.T) { t.Parallel(); out(t, rig.command(nil, "scripts/release.sh", version, first.dir)) })
		t.Run("image", func(t *testing.T) { t.Parallel(); built = buildImage(t, rig, epoch) })
	})
	if t.Failed() {
		t.FailNow()
	}
	binary := filepath.Join(built.root, "usr/bin/rustmq")
	here, there := linker(t, rig.command(nil, "sh", "-c", linkerOf)), linker(t, in(rig.overlay(t, "linker", rig.layer("golang"), rig.layer("debian")), nil, "sh", "-c", linkerOf))
	switch a, b := sum(t, first.binary), sum(t, binary); {
	case here != there: // another Debian than the image's
		t.Logf("executables are not compared, and the image's is packed no second time: linked by %s here, by %s there", here, there)
		binary = first.binary
	case a != b:
		t.Errorf("the executable of the release is %s, that of the image %s", a, b)
	}
	t.Run("image", func(t *testing.T) { checkImage(t, built, epoch) })
	t.Run("again", func(t *testing.T) {
		checkRelease(t, first)
		// Once more, of another folder and user's habits.
		again := release{dir: rig.dir(t, "again/deeper")}
		cmd := rig.command([]string{"SOURCE_DATE_EPOCH=" + epoch, "TZ=Asia/Tokyo", "LANG=C.UTF-8", "HOME=" + again.dir, "USER=nobody",
			"GOCACHE=" + goEnv(t, rig, "GOCACHE"), "GOMODCACHE=" + goEnv(t, rig, "GOMODCACHE"), "TMPDIR=" + rig.dir(t, "elsewhere")},
			"/bin/sh", "-c", `umask 077; exec "$0" pack "$@"`, filepath.Join(rig.repo, "scripts/release.sh"), version, binary, again.dir)
		cmd.Dir = "/"
		out(t, cmd)
		a, err := os.ReadFile(filepath.Join(first.dir, "SHA256SUMS"))
		must(t, err)
		b, err := os.ReadFile(filepath.Join(again.dir, "SHA256SUMS"))
		must(t, err)
		if string(a) != string(b) {
			t.Errorf("one release is\n%sthe other\n%s", a, b)
		}
	})
	next := release{dir: rig.dir(t, "later"), binary: first.binary}
	upgradeDeb(t, first.file(t, ".deb"), next.dir)
	if t.Failed() {
		t.FailNow()
	}

	t.Run("installed", func(t *testing.T) {
		t.Run("cluster", func(t *testing.T) { t.Parallel(); runCompose(t, rig, built) })
		t.Run("deb", func(t *testing.T) { t.Parallel(); runDeb(t, rig, first, next) })
		t.Run("systemd", func(t *testing.T) { t.Parallel(); runSystemd(t, rig, first, next) })
	})
}

// linkerOf says what an executable with a C library is compiled and linked by.
const linkerOf = "gcc -dumpfullversion; ld --version | head -n 1"

func linker(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	return strings.ReplaceAll(out(t, cmd), "\n", ", ")
}

func goEnv(t *testing.T, r *rig, name string) string {
	t.Helper()
	return out(t, r.command(nil, "go", "env", name))
}

func sum(t *testing.T, file string) string {
	t.Helper()
	raw, err := os.ReadFile(file)
	must(t, err)
	of := sha256.Sum256(raw)
	return hex.EncodeToString(of[:])
}

// buildImage interprets the Dockerfile. Its golang image is Debian with gcc, and the Go that
// runs this; its node image that Debian with the Node that is here, and what npm has installed;
// its caches are those of this user.
func buildImage(t *testing.T, r *rig, epoch string) *image {
	t.Helper()
	text := read(t, filepath.Join(r.repo, "deploy/docker/Dockerfile"))
	golang, node := baseOf(t, text, "golang"), baseOf(t, text, "node")
	pinned, _, _ := strings.Cut(strings.TrimPrefix(golang, "golang:"), "-")
	if pinned != strings.TrimPrefix(runtime.Version(), "go") {
		t.Logf("the image is built by Go %s, and here by %s", pinned, runtime.Version())
	}
	nodeHere, err := exec.LookPath("node")
	must(t, err)
	nodeHere, err = filepath.EvalSymlinks(nodeHere)
	must(t, err)
	layers := []string{r.layer("golang"), r.layer("debian")}
	b := &builder{
		rig: r, context: r.repo,
		args: map[string]string{"VERSION": version, "SOURCE_DATE_EPOCH": epoch},
		bases: map[string]base{
			golang: {
				layers: layers,
				// Of the golang image, and that there is no network.
				env:    []string{"PATH=/go/bin:/usr/local/go/bin:/usr/sbin:/usr/bin:/sbin:/bin", "GOPATH=/go", "GOTOOLCHAIN=local", "GOPROXY=off", "HOME=/root"},
				mounts: [][2]string{{goEnv(t, r, "GOROOT"), "/usr/local/go"}},
			},
			node: {
				layers: layers,
				env:    []string{"PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"},
				mounts: [][2]string{{nodeHere, "/usr/local/bin/node"}, {filepath.Join(r.repo, "console/node_modules"), "/src/console/node_modules"}},
			},
		},
		caches: map[string]string{"/go/pkg/mod": goEnv(t, r, "GOMODCACHE"), "/root/.cache/go-build": goEnv(t, r, "GOCACHE"), "/root/.npm": r.dir(t, "npm")},
	}
	return b.build(t, text)
}

// baseOf is the image of a name that a Dockerfile begins with.
func baseOf(t *testing.T, text, name string) string {
	t.Helper()
	for line := range strings.Lines(text) {
		if after, is := strings.CutPrefix(line, "FROM "+name+":"); is {
			return name + ":" + strings.Fields(after)[0]
		}
	}
	t.Fatalf("nothing is FROM %s", name)
	return ""
}

// checkImage holds that the image is what it is to be, and nothing else.
func checkImage(t *testing.T, i *image, epoch string) {
	if i.user != "65532:65532" || i.dir != "/var/lib/rustmq" || !slices.Equal(i.entrypoint, []string{"/usr/bin/rustmq"}) || !slices.Equal(i.command, []string{"serve"}) ||
		!slices.Equal(i.health, []string{"/usr/bin/rustmq", "health"}) || i.stopSignal != "SIGTERM" || !slices.Equal(i.volumes, []string{"/var/lib/rustmq"}) ||
		i.labels["org.opencontainers.image.version"] != version {
		t.Errorf("the image is %+v", i)
	}
	at, err := strconv.ParseInt(epoch, 10, 64)
	must(t, err)
	var size int64
	programs := []string(nil)
	must(t, filepath.WalkDir(i.root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(i.root, name) // of a walk below it
		of := info.Sys().(*syscall.Stat_t)
		owner := uint32(0)
		if rel == "var/lib/rustmq" {
			owner = 65532
		}
		if of.Uid != owner || of.Gid != owner || info.Mode()&(fs.ModeSetuid|fs.ModeSetgid) != 0 || (info.Mode().Perm()&0o022 != 0 && rel != "tmp") {
			t.Errorf("%s is %v of %d:%d", rel, info.Mode(), of.Uid, of.Gid)
		}
		if info.Mode().IsRegular() {
			size += info.Size()
			if info.ModTime().Unix() != at {
				t.Errorf("%s is of %v", rel, info.ModTime())
			}
			if info.Mode().Perm()&0o111 != 0 && !strings.Contains(rel, ".so") {
				programs = append(programs, rel)
			}
		}
		return nil
	}))
	if !slices.Equal(programs, []string{"usr/bin/rustmq"}) {
		t.Errorf("programs: %v", programs)
	}
	if size > 110<<20 {
		t.Errorf("it has %d MiB", size>>20)
	}
	t.Logf("the image has %d MiB", size>>20)
}

// checkRelease looks at what is not seen by running it.
func checkRelease(t *testing.T, r release) {
	for _, line := range strings.Split(strings.TrimSpace(read(t, filepath.Join(r.dir, "SHA256SUMS"))), "\n") {
		of, name, _ := strings.Cut(line, "  ")
		if got := sum(t, filepath.Join(r.dir, name)); got != of {
			t.Errorf("%s: %s, and SHA256SUMS says %s", name, got, of)
		}
	}
	binary := read(t, r.binary)
	for _, place := range []string{"/root/", "/tmp/", filepath.Dir(r.dir)} {
		for _, of := range []string{"go/pkg/mod", "rustmq"} {
			if strings.Contains(binary, place+of) {
				t.Errorf("the executable names %s%s of whoever built it", place, of)
			}
		}
	}
	licences := filepath.Join(strings.TrimSuffix(filepath.Base(r.file(t, ".tar.gz")), ".tar.gz"), "THIRD-PARTY-LICENCES")
	for _, part := range []string{"==== Go\n", "github.com/bytecodealliance/wasmtime-go/", "preact ", "uplot "} {
		if !strings.Contains(out(t, exec.Command("tar", "-xOf", r.file(t, ".tar.gz"), licences)), part) {
			t.Errorf("the licences lack %q", part)
		}
	}
	bill := read(t, r.file(t, ".cdx.json"))
	for _, part := range []string{`"pkg:npm/preact@`, `"pkg:npm/uplot@`, `"pkg:golang/rustmq.dev/rustmq@` + version + `"`, `"pkg:golang/github.com/bytecodealliance/wasmtime-go/`, `"pkg:golang/std@go1.`, sum(t, r.binary)} {
		if !strings.Contains(bill, part) {
			t.Errorf("the bill of materials lacks %s", part)
		}
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	raw, err := os.ReadFile(file)
	must(t, err)
	return string(raw)
}

// glibc is the version of the C library that an executable asks for.
func glibc(t *testing.T, file string) string {
	t.Helper()
	f, err := elf.Open(file)
	must(t, err)
	defer f.Close()
	symbols, err := f.ImportedSymbols()
	must(t, err)
	most := "0"
	for _, s := range symbols {
		if v, is := strings.CutPrefix(s.Version, "GLIBC_"); is && newer(v, most) {
			most = v
		}
	}
	return most
}

// newer compares versions of the C library: 2.34 is newer than 2.4.
func newer(a, b string) bool {
	of := func(version string) (parts []int) {
		for part := range strings.SplitSeq(version, ".") {
			number, _ := strconv.Atoi(part) // GLIBC_PRIVATE is none
			parts = append(parts, number)
		}
		return parts
	}
	return slices.Compare(of(a), of(b)) > 0
}
