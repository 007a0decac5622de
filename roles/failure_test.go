package roles

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"rustmq.dev/rustmq/configs"
	"rustmq.dev/rustmq/storage/wal"
)

// TestDeathOfEitherLogIsSaid: by health, also while the node is closed for it, and by
// the metric that is for this; to its owner once.
func TestDeathOfEitherLogIsSaid(t *testing.T) {
	dead := fmt.Errorf("%w: input/output error", wal.ErrDead)
	config, err := configs.Load(configs.Sources{Flags: []configs.Setting{
		{Key: "network.kafka_port", Value: "0"}, {Key: "network.http_port", Value: "0"}, {Key: "wal.capacity", Value: "1GiB"}, {Key: "broker.data_dir", Value: t.TempDir()},
	}})
	if err != nil {
		t.Fatal(err)
	}
	told := make(chan error, 2)
	n, err := Start(t.Context(), NodeOptions{Config: config, Failed: func(err error) { told <- err }})
	if err != nil {
		t.Fatal(err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	n.fail(dead) // as the controller does whose log is dead
	n.fail(errors.New("another"))
	if len(told) != 1 || <-told != dead {
		t.Error("the owner is not told once, of the first")
	}
	for path, want := range map[string]string{"/readyz": dead.Error(), "/healthz": dead.Error(), "/metrics": "\nrustmq_broker_healthy 0\n"} {
		resp, err := http.Get("http://" + n.HTTP() + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err := errors.Join(err, resp.Body.Close()); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(body), want) || (resp.StatusCode == http.StatusOK) != (path == "/metrics") {
			t.Errorf("%s: %s, without %q", path, resp.Status, want)
		}
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
	if err := n.Ready(); err != dead {
		t.Errorf("closed for it, it is ready: %v", err)
	}
}

// TestServeSaysWhatToDo about what it died of.
func TestServeSaysWhatToDo(t *testing.T) {
	always, interval := configs.Default(), configs.Default()
	interval.WAL.Sync, interval.WAL.SyncInterval = "interval", configs.Duration(50*time.Millisecond)
	dead := fmt.Errorf("%w: input/output error", wal.ErrDead)
	for _, c := range []struct {
		cause     error
		config    *configs.Config
		ephemeral bool
		want      string
	}{
		{dead, always, false, "what was acked is on disk: start it again once the disk is well"},
		{dead, interval, false, "what was acked is on disk, but for up to the last 50ms (wal.sync = interval): start it again once the disk is well"},
		{dead, always, true, "its data is removed (--ephemeral): start it again once the disk is well"},
		{fmt.Errorf("propose: %w", wal.ErrFull), always, false, "what was acked is on disk: make room on the disk, and start it again"},
		{errors.New("accept: invalid argument"), always, false, "what was acked is on disk: start it again"},
	} {
		if got, want := failure(c.cause, c.config, c.ephemeral).Error(), "this node cannot go on: "+c.cause.Error()+"; "+c.want; got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	}
}
