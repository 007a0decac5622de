package roles

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"rustmq.dev/rustmq/roles/admin"
	"rustmq.dev/rustmq/roles/client"
)

// localTokenFile is the token of who may read the data directory, and may do everything. A
// start makes another.
const localTokenFile = "admin.token"

// writeLocalToken puts a new token into the data directory, and returns its hash and where it
// is.
func (n *Node) writeLocalToken() (hash [32]byte, file string, err error) {
	var random [32]byte
	rand.Read(random[:]) // never fails
	text, hash := admin.NewLocalToken(random)
	file = filepath.Join(n.root, localTokenFile)
	if n.machine.FS != nil { // simulated: nobody else is on it
		return hash, file, nil
	}
	fail := func(err error) ([32]byte, string, error) {
		return hash, file, fmt.Errorf("write the token of the admin API for this machine: %w", err)
	}
	err = client.WriteWhole(file, func(w io.Writer) error {
		_, err := fmt.Fprintln(w, text)
		return err
	})
	if err != nil {
		return fail(err)
	}
	n.opened("token of this machine", func(context.Context) error {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	})
	return hash, file, nil
}

// noteLocal has the commands of this user find the server, and its token.
func (n *Node) noteLocal(scheme, tokenFile string) {
	if n.machine.FS != nil || n.machine.Listen != nil {
		return
	}
	at := n.httpAddr
	if host, port, err := net.SplitHostPort(at); err == nil && net.ParseIP(host).IsUnspecified() {
		at = net.JoinHostPort("127.0.0.1", port)
	}
	note := admin.Local{URL: scheme + "://" + at, TokenFile: tokenFile}
	if scheme == "https" {
		note.CAFile = n.caFile
	}
	forget, err := admin.NoteLocal(n.httpAddr, note)
	if err != nil {
		n.log.Warn("commands of this user do not find the token of the admin API by themselves: give --token-file", "file", tokenFile, "error", err)
		return
	}
	n.opened("note for commands", func(context.Context) error { forget(); return nil })
}
