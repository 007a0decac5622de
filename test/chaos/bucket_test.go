//go:build chaos

package chaos

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"rustmq.dev/rustmq/roles/admin"
	"rustmq.dev/rustmq/roles/controller"
)

// collectLimit is far above an upload's deadline and the grace after it, which is
// how long what a killed server was uploading may stay, and what deletions take on a
// machine that has other things to do.
const collectLimit = 5 * time.Minute

// collecting makes what is deleted go within a test.
var collecting = []string{
	"wal.upload_interval=100ms", "object_storage.metadata_log_interval=100ms",
	"object_storage.upload_timeout=10s", "object_storage.grace=1s", "object_storage.check_interval=2s",
}

// throughBucket gives the servers a log that holds a few lives' records: those of
// earlier ones are read from the bucket, which is in the data directory.
func (d *drill) throughBucket() {
	d.bucket = true
	d.set = append([]string{
		"wal.segment_size=2MiB", "wal.capacity=20MiB", "wal.memory=16MiB", "wal.upload_bytes=2MiB", "broker.message_max_bytes=512KiB",
		// Objects are compacted, and listed in manifests, all the time.
		"compaction.min_object=256KiB", "compaction.target_object=1MiB", "compaction.interval=1s", "object_storage.manifest_ranges=2",
	}, collecting...)
}

// replace fills a topic, and deletes the one of two lives ago, so that there is
// something to collect.
func (d *drill) replace(topic string) error {
	client, err := kgo.NewClient(append(clientOptions(d.board), kgo.DefaultProduceTopic(topic))...)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	var records []*kgo.Record
	for seq := range uint32(100) {
		records = append(records, &kgo.Record{Value: newID(0, seq).value()})
	}
	if err := client.ProduceSync(ctx, records...).FirstErr(); err != nil {
		return fmt.Errorf("fill %s: %w", topic, err)
	}
	if len(d.topics) < 5 { // the first two are those that are checked
		return nil
	}
	old := d.topics[2]
	d.topics = append(d.topics[:2], d.topics[3:]...)
	if _, err := kadm.NewClient(client).DeleteTopic(ctx, old); err != nil {
		return fmt.Errorf("delete %s: %w", old, err)
	}
	return nil
}

// noteCold looks whether the server had to go to the bucket for what was read, and
// had listed anything in manifests.
func (d *drill) noteCold(s *server) error {
	first, err := s.localStart(d.lasting.topic)
	if err != nil {
		return err
	}
	read, err := s.metric(`rustmq_bucket_bytes_total{class="get"}`)
	if err != nil {
		return err
	}
	if first > 0 {
		d.cold++
		d.coldBytes += read
	}
	state, err := s.storage()
	d.filed = max(d.filed, int(state.Filed))
	return err
}

// checkBucket is asked when nobody produces any more: the bucket must come to
// hold what the catalogue names, whole, and nothing else.
func (d *drill) checkBucket(s *server) error {
	if d.cold == 0 || d.coldBytes == 0 {
		return fmt.Errorf("in %d lives records had left the log, and %d bytes were read from the bucket: this drill proves nothing", d.cold, d.coldBytes)
	}
	if err := d.awaitFiled(s); err != nil {
		return err
	}
	report, took, err := s.awaitClean(d.bin, func() (int64, error) { return filesOf(filepath.Join(d.dir, "bucket")) })
	if err != nil {
		return err
	}
	state, err := s.storage()
	if err != nil {
		return err
	}
	d.counts["objects_audited"] += report.Committed.Objects
	d.t.Logf("%d lives read %d MiB from the bucket; clean after %v: %d objects of %d MiB, all verified; %d of %d ranges are in %d manifests",
		d.cold, d.coldBytes>>20, took.Round(100*time.Millisecond), report.Committed.Objects, report.Committed.Bytes>>20, state.Filed, state.Ranges, state.Manifests)
	return nil
}

// awaitFiled waits until something was listed in manifests, if nothing ever was: lives
// may have been too short for that. What was listed may have left with its topic since.
func (d *drill) awaitFiled(s *server) error {
	ticker := time.NewTicker(250 * time.Millisecond)
	defer ticker.Stop()
	for begin := time.Now(); d.filed == 0; <-ticker.C {
		state, err := s.storage()
		if err != nil {
			return err
		}
		d.filed = int(state.Filed)
		if time.Since(begin) > collectLimit {
			return fmt.Errorf("in %d lives and %v nothing was listed in manifests of %d ranges: this drill proves less than it should", d.lives, collectLimit, state.Ranges)
		}
	}
	return nil
}

// filesOf counts the objects in a bucket's directory, and what a write has left
// over there.
func filesOf(dir string) (files int64, err error) {
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		parent := filepath.Dir(path)
		switch {
		case errors.Is(err, fs.ErrNotExist): // it went while we looked
		case err != nil:
			return err
		case filepath.Base(parent) == ".writing" && strings.HasPrefix(entry.Name(), "tmp-"),
			filepath.Base(filepath.Dir(parent)) == "data" && !entry.IsDir(): // data/<xx>/<id>
			files++
		}
		return nil
	})
	return files, err
}

// awaitClean checks the bucket until it holds what the catalogue names and nothing
// else; objects counts what it holds, without the server. What is missing or
// damaged will not come back, and is an error at once.
func (s *server) awaitClean(bin string, objects func() (int64, error)) (r controller.CheckReport, took time.Duration, err error) {
	ticker := time.NewTicker(250 * time.Millisecond)
	defer ticker.Stop()
	for begin := time.Now(); ; <-ticker.C {
		state, err := s.storage()
		if err != nil {
			return r, 0, err
		}
		r, out, err := s.check(bin, "--verify")
		if errors.Is(err, errNobodyLeads) && time.Since(begin) < collectLimit {
			continue
		}
		if err != nil {
			return r, 0, err
		}
		if r.Foreign.Objects > 0 {
			return r, 0, fmt.Errorf("storage check: %s", out)
		}
		held, err := objects()
		if err != nil {
			return r, 0, err
		}
		named := r.Committed.Objects
		if state.Upload.WaitingBytes == 0 && state.Upload.Running == 0 && state.Objects["condemned"].Objects == 0 &&
			held == named && r.Verified.Objects == named && r.Prepared.Objects+r.Condemned.Objects+r.Orphans.Objects == 0 {
			return r, time.Since(begin), nil
		}
		if time.Since(begin) > collectLimit {
			return r, 0, fmt.Errorf("after %v the bucket holds %d objects; %d bytes wait; the check says %s\nthe server says:\n%s",
				collectLimit, held, state.Upload.WaitingBytes, out, s.log.String())
		}
	}
}

// errNobodyLeads is why a check was not made: no controller that leads was found in time. On a
// machine with much else to do they may be at odds for a while.
var errNobodyLeads = errors.New("no controller that leads has answered")

// check compares bucket and catalogue; what is missing or damaged is an error.
func (s *server) check(bin string, flags ...string) (r controller.CheckReport, out []byte, err error) {
	cmd := exec.Command(bin, append([]string{"admin", "--url", "http://" + s.http, "storage", "check", "-o", "json"}, flags...)...)
	out, err = cmd.Output()
	if exit := (&exec.ExitError{}); errors.As(err, &exit) {
		for _, says := range []string{"request timed out", "not controller"} {
			if strings.Contains(string(exit.Stderr), says) {
				err = fmt.Errorf("%w: %w", errNobodyLeads, err)
				break
			}
		}
		return r, out, fmt.Errorf("storage check: %w: %s%s\nthe server says:\n%s", err, out, exit.Stderr, s.log.String())
	}
	if err == nil {
		err = json.Unmarshal(out, &r)
	}
	if err != nil {
		return r, out, fmt.Errorf("storage check says %s: %w", out, err)
	}
	return r, out, nil
}

// get asks the server's HTTP for a page, and hands it to read.
func (s *server) get(path string, read func(*http.Response) error) error {
	client := http.Client{Timeout: 30 * time.Second}
	defer client.CloseIdleConnections()
	resp, err := client.Get("http://" + s.http + path)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", path, resp.Status)
	}
	return read(resp)
}

func (s *server) getJSON(path string, out any) error {
	return s.get(path, func(r *http.Response) error { return json.NewDecoder(r.Body).Decode(out) })
}

// ready is nil if the server says that it is.
func (s *server) ready() error {
	return s.get("/readyz", func(*http.Response) error { return nil })
}

func (s *server) storage() (state admin.BucketState, err error) {
	err = s.getJSON("/api/v1/storage", &state)
	return state, err
}

// localStart is the least of a topic's offsets that are in the log, over its
// partitions.
func (s *server) localStart(topic string) (int64, error) {
	var t admin.Topic
	if err := s.getJSON("/api/v1/topics/"+topic, &t); err != nil {
		return 0, err
	}
	if len(t.PartitionList) != partitions {
		return 0, fmt.Errorf("topic %s has %d partitions", topic, len(t.PartitionList))
	}
	first := int64(t.PartitionList[0].LocalStart)
	for _, p := range t.PartitionList {
		first = min(first, int64(p.LocalStart))
	}
	return first, nil
}

// metric is the value of a line of /metrics.
func (s *server) metric(name string) (value int64, err error) {
	found := false
	err = s.get("/metrics", func(r *http.Response) error {
		lines := bufio.NewScanner(r.Body)
		for lines.Scan() {
			text, is := strings.CutPrefix(lines.Text(), name+" ")
			if !is {
				continue
			}
			f, err := strconv.ParseFloat(text, 64)
			if err != nil {
				return err
			}
			value, found = int64(f), true
		}
		return lines.Err()
	})
	if err == nil && !found {
		err = fmt.Errorf("no metric %s", name)
	}
	return value, err
}
