package admin

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"rustmq.dev/rustmq/roles/client"
	"rustmq.dev/rustmq/security/sasl"
	"rustmq.dev/rustmq/storage/guard"
)

// Local is a server of this user on this machine that asks who calls, as commands of the
// same user find it. What proves who they are stays in the data directory.
type Local struct {
	URL       string `json:"url"`
	TokenFile string `json:"token_file"`        // absolute
	CAFile    string `json:"ca_file,omitempty"` // of a certificate that was made by the server
	// TokenHash is of what stands in TokenFile; NoteLocal fills it in. A server that was killed
	// leaves its note, and the file may be another's by now, which listens elsewhere.
	TokenHash string `json:"token_hash"`
}

// current reports whether the token is still that of the server of the note.
func (l Local) current() bool {
	hash, err := hashOf(l.TokenFile)
	return err == nil && guard.Check("admin.note-current", hash == l.TokenHash)
}

func hashOf(tokenFile string) (string, error) {
	token, err := readSecret(tokenFile, sasl.ReadToken)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:]), nil
}

// localDir is where servers of this user note themselves: a directory that is nobody else's.
func localDir() string {
	return filepath.Join(os.TempDir(), "rustmq-"+strconv.Itoa(os.Getuid()))
}

// ownDir reports why a directory may be written to by others, who could have a command send
// its secret to them.
func ownDir(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	stat, known := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || info.Mode().Perm()&0o077 != 0 || !known || int(stat.Uid) != os.Getuid() {
		return fmt.Errorf("%s is not a directory that is this user's alone", dir)
	}
	return nil
}

// localName is that of the file about the server at an address.
func localName(hostPort string) string {
	return strings.NewReplacer(":", "_", "/", "_", "%", "_").Replace(hostPort) + ".json"
}

// NoteLocal has commands of this user find a server by its address. forget takes that back.
func NoteLocal(hostPort string, l Local) (forget func(), err error) {
	dir := localDir()
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	if err := ownDir(dir); err != nil {
		return nil, err
	}
	hash, err := hashOf(l.TokenFile)
	if err != nil {
		return nil, err
	}
	l.TokenHash = hash
	raw, err := json.Marshal(l)
	if err != nil {
		return nil, err
	}
	name := filepath.Join(dir, localName(hostPort))
	err = client.WriteWhole(name, func(w io.Writer) error {
		_, err := w.Write(raw)
		return err
	})
	if err != nil {
		return nil, err
	}
	return func() {
		if now, err := os.ReadFile(name); err == nil && string(now) == string(raw) { // another has not come in its place
			_ = os.Remove(name) // what is left names a token that is good for nothing
		}
	}, nil
}

// localServer is the server of this user at the address of a URL, whatever its scheme.
func localServer(base string) (l Local, found bool) {
	u, err := url.Parse(base)
	if err != nil {
		return Local{}, false
	}
	host, port := u.Hostname(), u.Port()
	hosts := []string{host}
	if host == "localhost" {
		hosts = []string{"127.0.0.1", "::1"}
	}
	if ip := net.ParseIP(hosts[0]); ip != nil && isOfMachine(ip) {
		hosts = append(hosts, "0.0.0.0", "::") // what is bound to all addresses
	}
	for _, h := range hosts {
		if l, found = readLocal(localName(net.JoinHostPort(h, port))); found {
			return l, true
		}
	}
	return Local{}, false
}

// isOfMachine reports whether an address is one of this machine's.
func isOfMachine(ip net.IP) bool {
	if ip.IsLoopback() {
		return true
	}
	all, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, a := range all {
		if n, is := a.(*net.IPNet); is && n.IP.Equal(ip) {
			return true
		}
	}
	return false
}

// localURLs are the addresses of the servers of this user on this machine, as far as they
// have noted themselves; of those that were killed, only while their data is there.
func localURLs() (urls []string) {
	entries, err := os.ReadDir(localDir())
	if err != nil {
		return nil
	}
	for _, e := range entries {
		if l, found := readLocal(e.Name()); found && strings.HasSuffix(e.Name(), ".json") && l.current() {
			urls = append(urls, l.URL)
		}
	}
	return urls
}

func readLocal(name string) (l Local, found bool) {
	dir := localDir()
	if ownDir(dir) != nil {
		return Local{}, false
	}
	raw, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil || json.Unmarshal(raw, &l) != nil {
		return Local{}, false
	}
	return l, true
}
