package admin

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/security/audit"
	"rustmq.dev/rustmq/storage"
)

// Cluster is what the API asks the controller for.
type Cluster interface {
	Image() *metadata.Image
	CreateTopics(ctx context.Context, topics []controller.NewTopic, validateOnly bool) []controller.TopicResult
	DeleteTopics(ctx context.Context, topics []controller.TopicRef) []controller.TopicResult
	CreatePartitions(ctx context.Context, name string, total int32, assignments [][]int32, validateOnly bool) error
	AlterConfigs(ctx context.Context, changes []controller.ConfigChange, validateOnly bool) []error
	AlterClientQuotas(ctx context.Context, changes []controller.QuotaChange, validateOnly bool) []error
	AlterACLs(ctx context.Context, changes []controller.ACLChange) []error
	AlterUsers(ctx context.Context, changes []metadata.UserChange) []error
	CreateAPIToken(context.Context, metadata.APIToken) error
	DeleteAPIToken(ctx context.Context, name string) error
	DeployTransform(ctx context.Context, name string, v metadata.TransformVersion, activate bool, seen uint64) error
	SetTransform(ctx context.Context, name string, change metadata.TransformChange) error
	DeleteTransform(ctx context.Context, name string, change metadata.TransformChange, force bool) error
}

type api struct {
	cluster       Cluster
	partition     func(storage.PartitionID) (PartitionState, bool) // nil: none is here
	holdings      Holdings                                         // nil: nobody is asked
	ackBeforeSync time.Duration
}

// registerAPI registers the routes of the API, and returns them. d is who asks;
// nil: nobody does.
func registerAPI(mux *http.ServeMux, o Options, d *door, stopping context.Context) *routes {
	config := huma.DefaultConfig("rustmq", o.Version)
	config.OpenAPIPath = "/api/v1/openapi"
	config.DocsPath = ""
	// Answers link to no schema: the address would be made of the Host header that a client
	// sends, and the document has them all.
	config.SchemasPath, config.CreateHooks = "", nil
	config.Transformers = append(config.Transformers, withoutSecrets)
	a := api{cluster: o.Cluster, partition: o.Partition, holdings: o.Holdings, ackBeforeSync: o.AckBeforeSync}
	h := &routes{API: humago.New(mux, config), audit: o.Audit}
	h.asks, h.streams = o.Access != nil, newStreams(d, stopping)
	if h.audit == nil {
		h.audit = audit.Discard
	}
	registerTopics(h, a, o.Configuration)
	if o.Messages != nil {
		registerMessages(h, messagesAPI{o.Cluster, o.Messages, new(atomic.Uint32)})
	}
	if o.Messages != nil && o.Holdings != nil {
		registerTail(h, newTailAPI(o.Cluster, o.Messages, o.Holdings))
	}
	registerQuotas(h, a)
	registerACLs(h, aclsAPI{o.Cluster, o.Authorization})
	registerUsers(h, a)
	registerTokens(h, tokensAPI{o.Cluster})
	if d != nil && d.sessions != nil {
		registerSessions(h, sessionsAPI{d})
	} else {
		registerNoSession(h)
	}
	if o.Brokers != nil {
		registerBrokers(h, brokersAPI{o.Cluster, o.Brokers, o.Holdings})
		registerOperations(h, operationsAPI{o.Cluster})
	}
	if o.Controllers != nil {
		registerControllers(h, controllersAPI{o.Controllers, o.TakeSnapshot})
		registerCluster(h, clusterAPI{o.Cluster, o.Controllers, o.Bucket, o.Transforms, o.Version, o.Node, o.sights})
		registerBackup(h, backupAPI{o.Cluster, o.Backup})
	}
	if o.Node != nil {
		registerNode(h, nodeAPI{o.Node, o.Tellers})
	}
	if o.Tellers != nil {
		registerNodes(h, nodesAPI{o.Tellers})
	}
	if o.Configuration != nil {
		registerConfig(h, configAPI{o.Cluster, o.Configuration})
	}
	if o.AuditLog != nil {
		registerAudit(h, auditAPI{o.AuditLog})
	}
	if o.Groups != nil {
		registerGroups(h, groupsAPI{o.Groups, o.lags})
	}
	if o.Transforms != nil {
		registerETL(h, etlAPI{o.Cluster, o.Transforms, o.Tellers, time.Now, make(chan struct{}, maxTrials)})
	}
	if o.Bucket != nil {
		registerStorage(h, storageAPI{o.Bucket, stopping})
	}
	if o.recorder == nil {
		o.recorder = newRecorder(nil, func() float64 { return 0 })
	}
	registerHistory(h, historyAPI{o.recorder})
	registerEvents(h, eventsAPI{o.Cluster, o.recorder, o.sights})
	registerMay(h)
	h.checkRows()
	h.describe()
	return h
}

// problem turns a controller's error into an HTTP one: of 400 and the like what the
// request is to blame for, of 500 and the like what the server is.
func problem(err error) error {
	var refused *metadata.Error
	if !errors.As(err, &refused) {
		return huma.NewError(http.StatusServiceUnavailable, err.Error())
	}
	status := http.StatusBadRequest
	switch refused.Code {
	case metadata.UnknownTopicOrPartition, metadata.UnknownTopicID, metadata.ResourceNotFound, metadata.BrokerIDNotRegistered:
		status = http.StatusNotFound
	case metadata.ClusterAuthorizationFailed:
		status = http.StatusForbidden
	case metadata.TopicAlreadyExists, metadata.DuplicateResource, metadata.Conflict:
		status = http.StatusConflict
	case metadata.InvalidUpdateVersion:
		status = http.StatusPreconditionFailed
	case metadata.ThrottlingQuotaExceeded:
		status = http.StatusTooManyRequests
	case metadata.NotController, metadata.BrokerNotAvailable, metadata.KafkaStorageError:
		status = http.StatusServiceUnavailable
	case metadata.RequestTimedOut: // it may happen still
		status = http.StatusGatewayTimeout
	case metadata.UnknownServerError:
		status = http.StatusInternalServerError
	}
	said := refused.Error()
	if refused.Code == metadata.UnsupportedVersion && strings.Contains(said, "needs feature level") {
		said += "; the level rises by itself once every node runs a version that knows it"
	}
	return huma.NewError(status, said)
}
