package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"

	"github.com/danielgtaylor/huma/v2"

	"rustmq.dev/rustmq/consensus/metadata"
)

// TestStatusSaysWhoIsToBlame: a program may believe of 4xx that the request was
// wrong, and of 5xx and 429 that it may come again.
func TestStatusSaysWhoIsToBlame(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{metadata.Errorf(metadata.InvalidConfig, "no such key"), http.StatusBadRequest},
		{metadata.Errorf(metadata.UnknownTopicOrPartition, "no such topic"), http.StatusNotFound},
		{metadata.Errorf(metadata.TopicAlreadyExists, "it is there"), http.StatusConflict},
		{metadata.Errorf(metadata.ThrottlingQuotaExceeded, "too much at once"), http.StatusTooManyRequests},
		{metadata.Errorf(metadata.KafkaStorageError, "the log is dead"), http.StatusServiceUnavailable},
		{metadata.Errorf(metadata.BrokerNotAvailable, "it stops"), http.StatusServiceUnavailable},
		{metadata.Errorf(metadata.NotController, "another leads"), http.StatusServiceUnavailable},
		{metadata.Errorf(metadata.RequestTimedOut, "it may happen still"), http.StatusGatewayTimeout},
		{metadata.Errorf(metadata.UnknownServerError, "a defect"), http.StatusInternalServerError},
		{fmt.Errorf("propose: %w", metadata.Errorf(metadata.KafkaStorageError, "full")), http.StatusServiceUnavailable},
		{metadata.Errorf(metadata.UnsupportedVersion, "needs feature level 12, the cluster is at 11"), http.StatusBadRequest},
		{context.Canceled, http.StatusServiceUnavailable},
	} {
		got, ok := errors.AsType[huma.StatusError](problem(c.err))
		if !ok || got.GetStatus() != c.want {
			t.Errorf("%v: %v, want %d", c.err, got, c.want)
		}
	}
}

// What would be made is shown as what there is: lists and maps are there, and empty.
func TestATopicThatWouldBeMade(t *testing.T) {
	a := newAsking(t)
	for body, want := range map[string]string{
		`{"name":"made","dry_run":true}`: `"configs":{}`, `{"name":"made","dry_run":true,"configs":{"retention.ms":"5"}}`: `"configs":{"retention.ms":"5"}`,
	} {
		a.want(body, http.StatusCreated, a.do(http.MethodPost, "/api/v1/topics", body, "Authorization", "Bearer "+a.local), want, `"replication_factor":3`)
	}
	if _, there := a.c.Image().Topic("made"); there {
		t.Error("it was made")
	}
}
