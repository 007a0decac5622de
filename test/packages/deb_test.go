//go:build packages

package packages

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// Where the package keeps what an operator cares for.
const (
	debConfig = "etc/rustmq/rustmq.toml"
	debData   = "var/lib/rustmq"
	debWanted = "etc/systemd/system/multi-user.target.wants/rustmq.service"
)

// runDeb takes the package through its life in a Debian in which nothing runs.
func runDeb(t *testing.T, r *rig, first, next release) {
	root := r.overlay(t, "clean", r.layer("debian"))
	mount(t, "proc", filepath.Join(root, "proc"), "")
	devices(t, root)
	for name, of := range map[string]release{"first.deb": first, "next.deb": next} {
		must(t, os.WriteFile(filepath.Join(root, "root", name), []byte(read(t, of.file(t, ".deb"))), 0o644))
	}
	dpkg := func(args ...string) string {
		t.Helper()
		said, err := in(root, nil, "dpkg", args...).CombinedOutput()
		if err != nil {
			t.Fatalf("dpkg %v: %v\n%s", args, err, said)
		}
		return string(said)
	}
	there := func(name string) bool {
		_, err := os.Lstat(filepath.Join(root, name))
		return err == nil
	}

	judgeDeb(t, root, "/root/first.deb", first)
	dpkg("--install", "/root/first.deb")
	if said := dpkg("--verify", "rustmq"); said != "" {
		t.Errorf("files are not as packed:\n%s", said)
	}
	if got := out(t, in(root, nil, "/usr/bin/rustmq", "version")); got != "rustmq "+version {
		t.Errorf("it says it is %q", got)
	}
	out(t, in(root, nil, "/usr/bin/rustmq", "config", "check", "/"+debConfig))
	out(t, in(root, nil, "/bin/bash", "-n", "/usr/share/bash-completion/completions/rustmq"))
	owner := out(t, in(root, nil, "stat", "-c", "%U:%G %a", "/"+debData))
	if owner != "rustmq:rustmq 700" {
		t.Errorf("the data are of %s", owner)
	}
	if got := out(t, in(root, nil, "getent", "passwd", "rustmq")); !strings.Contains(got, ":/var/lib/rustmq:/usr/sbin/nologin") {
		t.Errorf("the user is %s", got)
	}
	if !there(debWanted) {
		t.Errorf("the service does not start with the machine")
	}

	// What an operator has written and the node has kept outlive an upgrade and a removal.
	config := filepath.Join(root, debConfig)
	edited := read(t, config) + "\n# by hand\n"
	must(t, os.WriteFile(config, []byte(edited), 0o644))
	must(t, os.WriteFile(filepath.Join(root, debData, "kept"), []byte("records"), 0o600))
	must(t, os.Remove(filepath.Join(root, debWanted))) // systemctl disable
	kept := func(after string, configToo bool) {
		t.Helper()
		if raw, err := os.ReadFile(filepath.Join(root, debData, "kept")); err != nil || string(raw) != "records" {
			t.Errorf("after the %s the data are %q, %v", after, raw, err)
		}
		raw, err := os.ReadFile(config)
		switch {
		case configToo && (err != nil || string(raw) != edited):
			t.Errorf("after the %s the configuration is %q, %v", after, raw, err)
		case !configToo && !errors.Is(err, fs.ErrNotExist):
			t.Errorf("after the %s there is a configuration: %v", after, err)
		}
	}
	dpkg("--force-confold", "--install", "/root/next.deb")
	kept("upgrade", true)
	if !there(debConfig + ".dpkg-dist") {
		t.Error("the new configuration is not laid beside the edited one")
	}
	if there(debWanted) {
		t.Error("an upgrade has enabled the service, which was disabled")
	}
	if got := out(t, in(root, nil, "dpkg-query", "-W", "-f", "${Version} ${Status}", "rustmq")); got != later+" install ok installed" {
		t.Errorf("it is %s", got)
	}
	dpkg("--remove", "rustmq")
	kept("removal", true)
	if there("usr/bin/rustmq") || there("usr/lib/systemd/system/rustmq.service") {
		t.Error("a removal leaves the program")
	}
	if said := dpkg("--purge", "rustmq"); !strings.Contains(said, "the data in /var/lib/rustmq are kept") {
		t.Errorf("a purge does not say what it keeps:\n%s", said)
	}
	kept("purge", false)
	for _, name := range []string{"etc/rustmq", debWanted, "etc/systemd/system/rustmq.service", "var/lib/systemd/deb-systemd-helper-enabled/rustmq.service.dsh-also"} {
		if there(name) {
			t.Errorf("a purge leaves %s", name)
		}
	}
	dpkg("--install", "/root/next.deb")
	if owner := out(t, in(root, nil, "stat", "-c", "%U:%G", "/"+debData+"/kept")); !there(debWanted) || owner != "root:root" {
		t.Errorf("installed again, the data are of %s, and the service is enabled: %v", owner, there(debWanted))
	}
	must(t, os.Remove(filepath.Join(root, debData, "kept")))
	dpkg("--purge", "rustmq")
	if there(debData) {
		t.Error("a purge leaves an empty data directory")
	}
}

// upgradeDeb makes of a package one of a later version, whose configuration is another, too.
func upgradeDeb(t *testing.T, deb, into string) {
	t.Helper()
	tree := t.TempDir()
	out(t, exec.Command("dpkg-deb", "--raw-extract", deb, tree))
	for name, change := range map[string]func(string) string{
		"DEBIAN/control": func(s string) string { return strings.Replace(s, "Version: "+version, "Version: "+later, 1) },
		debConfig:        func(s string) string { return s + "\n# Of " + later + ".\n" },
	} {
		file := filepath.Join(tree, name)
		changed := change(read(t, file))
		must(t, os.WriteFile(file, []byte(changed), 0o644))
	}
	out(t, exec.Command("dpkg-deb", "-Znone", "--build", tree, filepath.Join(into, "rustmq_"+later+".deb")))
}

// judgeDeb is what lintian would look at first.
func judgeDeb(t *testing.T, root, deb string, of release) {
	t.Helper()
	dir := "/root/judged"
	out(t, in(root, nil, "dpkg-deb", "--raw-extract", deb, dir))
	control := map[string]string{}
	for line := range strings.Lines(read(t, filepath.Join(root, dir, "DEBIAN/control"))) {
		if key, value, is := strings.Cut(line, ": "); is && !strings.HasPrefix(line, " ") {
			control[key] = strings.TrimSpace(value)
		}
	}
	for _, key := range []string{"Package", "Version", "Architecture", "Maintainer", "Installed-Size", "Section", "Priority", "Description"} {
		if control[key] == "" {
			t.Errorf("the control file has no %s", key)
		}
	}
	if d := control["Description"]; len(d) > 80 || strings.HasSuffix(d, ".") || strings.HasPrefix(strings.ToLower(d), "a ") {
		t.Errorf("the synopsis is %q", d)
	}
	needed := glibc(t, of.binary)
	_, said, _ := strings.Cut(control["Depends"], "libc6 (>= ")
	if said, _, _ = strings.Cut(said, ")"); newer(needed, said) {
		t.Errorf("it depends on glibc %s, and the executable on %s", said, needed)
	}
	var etc, files []string
	must(t, filepath.WalkDir(filepath.Join(root, dir), func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(filepath.Join(root, dir), name)
		if err != nil || rel == "." || strings.HasPrefix(rel, "DEBIAN") {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		owner, want := info.Sys().(*syscall.Stat_t), fs.FileMode(0o644)
		if entry.IsDir() || rel == "usr/bin/rustmq" {
			want = 0o755
		}
		if owner.Uid != 0 || owner.Gid != 0 || info.Mode().Perm() != want || info.Mode()&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky) != 0 {
			t.Errorf("%s is %v of %d:%d", rel, info.Mode(), owner.Uid, owner.Gid)
		}
		if entry.IsDir() {
			return nil
		}
		files = append(files, rel)
		if strings.HasPrefix(rel, "etc/") {
			etc = append(etc, "/"+rel)
		}
		if strings.HasPrefix(rel, "usr/local/") || strings.HasPrefix(rel, "opt/") || strings.HasPrefix(rel, "var/") {
			t.Errorf("%s is where packages have nothing", rel)
		}
		if raw, err := os.ReadFile(name); strings.HasSuffix(rel, ".gz") && (err != nil || !bytes.Equal(raw[4:8], make([]byte, 4))) {
			t.Errorf("%s has a time in it, %v", rel, err)
		} else if strings.HasPrefix(rel, "usr/share/man/") && !strings.HasSuffix(rel, ".gz") {
			t.Errorf("%s is not compressed", rel)
		}
		return nil
	}))
	if conffiles := strings.Fields(read(t, filepath.Join(root, dir, "DEBIAN/conffiles"))); !slices.Equal(conffiles, etc) {
		t.Errorf("conffiles are %v, and in /etc lie %v", conffiles, etc)
	}
	var summed []string
	for line := range strings.Lines(read(t, filepath.Join(root, dir, "DEBIAN/md5sums"))) {
		summed = append(summed, strings.TrimSpace(line[32:]))
	}
	for _, name := range files {
		if !slices.Contains(summed, name) && !slices.Contains(etc, "/"+name) {
			t.Errorf("%s has no checksum", name)
		}
	}
	for _, name := range []string{"usr/share/doc/rustmq/copyright", "usr/share/doc/rustmq/changelog.gz", "usr/share/doc/rustmq/THIRD-PARTY-LICENCES.gz", "usr/share/man/man1/rustmq.1.gz",
		"usr/share/man/man1/rustmq-admin-topics-create.1.gz", "usr/share/zsh/vendor-completions/_rustmq", "usr/share/fish/vendor_completions.d/rustmq.fish", "usr/lib/sysusers.d/rustmq.conf", "usr/share/rustmq/monitoring/grafana/broker.json"} {
		if !slices.Contains(files, name) {
			t.Errorf("%s is not in it", name)
		}
	}
	for _, script := range []string{"postinst", "prerm", "postrm"} {
		name := path.Join(dir, "DEBIAN", script)
		out(t, in(root, nil, "/bin/sh", "-n", name))
		if text := read(t, filepath.Join(root, name)); !strings.HasPrefix(text, "#!/bin/sh\n") || !strings.Contains(text, "\nset -e\n") {
			t.Errorf("%s goes on after what fails", script)
		}
	}
	must(t, os.RemoveAll(filepath.Join(root, dir)))
}
