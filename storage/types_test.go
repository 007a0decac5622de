package storage_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"rustmq.dev/rustmq/storage"
)

func TestLogsNamePartitionsAsPeopleDo(t *testing.T) {
	var out bytes.Buffer
	id := storage.PartitionID{Topic: storage.TopicID{1}, Index: 7}
	slog.New(slog.NewJSONHandler(&out, nil)).Info("", "partition", id)
	if !strings.Contains(out.String(), `"partition":"`+id.String()+`"`) {
		t.Errorf("%s", out.String())
	}
}
