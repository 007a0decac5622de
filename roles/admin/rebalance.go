package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"rustmq.dev/rustmq/roles/controller"
)

// Rebalance is how replicas are spread anew.
type Rebalance struct {
	DryRun  bool             `json:"dry_run"`
	Moves   []ReplicaMove    `json:"moves"`
	Brokers []BrokerReplicas `json:"brokers"`
	// SentBytes and KeptBytes are those of Moves together.
	SentBytes int64    `json:"sent_bytes" doc:"what new replicas are sent: records that are not in the bucket yet, by the last reports of leaders, some KiB of a partition not counted"`
	KeptBytes int64    `json:"kept_bytes" doc:"bytes of these partitions in the bucket, which do not move"`
	Refused   []string `json:"refused,omitempty" doc:"moves that did not begin, and why"`
	Operation string   `json:"operation,omitempty" doc:"the id of what is under way; left out: nothing began"`
}

// ReplicaMove is a partition that is given other replicas.
type ReplicaMove struct {
	Topic     string  `json:"topic"`
	Partition int32   `json:"partition"`
	From      []int32 `json:"from" doc:"its replicas before"`
	To        []int32 `json:"to" doc:"its replicas afterwards"`
	SentBytes int64   `json:"sent_bytes"`
	KeptBytes int64   `json:"kept_bytes"`
}

// BrokerReplicas is how many replicas a broker has, before and afterwards.
type BrokerReplicas struct {
	ID     int32 `json:"id"`
	Before int   `json:"before"`
	After  int   `json:"after"`
}

type (
	// RebalanceRequest is the body of a rebalance.
	RebalanceRequest struct {
		DryRun bool `json:"dry_run,omitempty" doc:"say what would move, and move nothing"`
	}
	rebalanceInput  struct{ Body RebalanceRequest }
	rebalanceOutput struct{ Body Rebalance }
)

// rebalance plans moves of replicas and begins them.
func (a brokersAPI) rebalance(ctx context.Context, in *rebalanceInput) (*rebalanceOutput, error) {
	plan, err := a.brokers.PlanRebalance(ctx)
	if err != nil {
		return nil, problem(err)
	}
	out := &rebalanceOutput{Rebalance{DryRun: in.Body.DryRun, Moves: []ReplicaMove{}, Brokers: []BrokerReplicas{}}}
	for _, b := range plan.Brokers {
		out.Body.Brokers = append(out.Body.Brokers, BrokerReplicas(b))
	}
	for _, m := range plan.Moves {
		move := ReplicaMove{m.Topic, m.Partition.Index, m.From, m.To, m.Sent(), m.InBucket}
		out.Body.Moves = append(out.Body.Moves, move)
		out.Body.SentBytes += move.SentBytes
		out.Body.KeptBytes += move.KeptBytes
	}
	if in.Body.DryRun {
		return out, nil
	}
	for part := range slices.Chunk(plan.Moves, movesAtOnce) {
		moves := make([]controller.Reassignment, len(part))
		for i, m := range part {
			moves[i] = controller.Reassignment{Partition: m.Partition, Replicas: m.To}
		}
		for i, err := range a.brokers.ReassignPartitions(ctx, moves) {
			tell(ctx, "topic", part[i].Topic, fmt.Sprintf("partition=%d replicas=%v", part[i].Partition.Index, part[i].To), err)
			if err != nil {
				out.Body.Refused = append(out.Body.Refused, fmt.Sprintf("%s-%d: %v", part[i].Topic, part[i].Partition.Index, err))
			}
		}
	}
	if n := len(plan.Moves) - len(out.Body.Refused); n > 0 {
		out.Body.Operation = operationID(kindReassignment, 0, n)
	}
	return out, nil
}

// clusterCommand is `rustmq admin cluster …`.
func (e *env) clusterCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "cluster", Short: "Judge, describe and spread a cluster, or bring it back from its bucket", Args: cobra.NoArgs}
	cmd.AddCommand(e.clusterHealth(), e.describeCluster(), e.backupCluster())
	cmd.AddCommand(e.rebalanceCluster())
	return cmd
}

func (e *env) rebalanceCluster() *cobra.Command {
	var dry bool
	var w waiting
	cmd := &cobra.Command{
		Use: "rebalance", Short: "Spread replicas evenly over brokers and racks", Args: cobra.NoArgs,
		Long: `Moves replicas so that brokers in service have as many each, and a partition has them on
different racks, by as few moves as that takes. Only the records that are not in the
bucket yet are sent to new replicas. It does not wait for that, unless --wait is given: the column MOVING of
` + "`rustmq admin brokers list`" + ` shows what is under way. Leaderships follow by themselves.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if dry && w.wait {
				return &UsageError{"--dry-run moves nothing, for which --wait could wait: give one of them"}
			}
			client := e.client(cmd)
			var out Rebalance
			if err := client.call(cmd.Context(), http.MethodPost, "/api/v1/cluster/rebalance", RebalanceRequest{dry}, &out); err != nil {
				return err
			}
			err := e.print(out, func() { e.showRebalance(out) })
			if err == nil && w.wait {
				err = w.until(cmd, "replicas that move", func(ctx context.Context) (moving int, err error) {
					var now struct {
						Brokers []Broker `json:"brokers"`
					}
					err = client.call(ctx, http.MethodGet, "/api/v1/brokers", nil, &now)
					for _, b := range now.Brokers {
						moving += b.Moving
					}
					return moving, err
				})
			}
			if len(out.Refused) > 0 {
				err = errors.Join(err, fmt.Errorf("%s did not begin: %s", plural(len(out.Refused), "move"), reasons(out.Refused)))
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&dry, "dry-run", false, "say what would move, and move nothing")
	w.flags(cmd, false, "nothing moves any more")
	return cmd
}

func (e *env) showRebalance(out Rebalance) {
	if len(out.Moves) == 0 {
		fmt.Fprintln(e.stdout, "replicas are spread evenly: nothing is to be moved")
		return
	}
	moves := e.table("TOPIC", "PARTITION", "FROM", "TO", "SENT", "STAYS IN THE BUCKET")
	for _, m := range out.Moves {
		moves.AppendRow(table.Row{m.Topic, m.Partition, ids(m.From), ids(m.To), size(m.SentBytes), size(m.KeptBytes)})
	}
	moves.Render()
	fmt.Fprintln(e.stdout)
	brokers := e.table("BROKER", "REPLICAS", "AFTERWARDS")
	for _, b := range out.Brokers {
		brokers.AppendRow(table.Row{b.ID, b.Before, b.After})
	}
	brokers.Render()
	did := "begin to move"
	if out.DryRun {
		did = "would move"
	}
	fmt.Fprintf(e.stdout, "\n%s %s; about %s are sent, %s stay in the bucket\n", plural(len(out.Moves)-len(out.Refused), "partition"), did, size(out.SentBytes), size(out.KeptBytes))
}
