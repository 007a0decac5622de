package admin

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"rustmq.dev/rustmq/configs"
)

// topicsCommand is `rustmq admin topics …`.
func (e *env) topicsCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "topics", Short: "Create, list, describe, alter and delete topics", Args: cobra.NoArgs}
	cmd.AddCommand(e.createTopic(), e.listTopics(), e.describeTopic(), e.alterTopic(), e.deleteTopic(), e.addPartitions())
	return cmd
}

func (e *env) createTopic() *cobra.Command {
	var body NewTopic
	var configs []string
	var ifNotExists bool
	cmd := &cobra.Command{
		Use: "create TOPIC", Short: "Create a topic", Args: cobra.ExactArgs(1),
		Example: "  rustmq admin topics create quakes --partitions 4 --config max.message.bytes=2000000",
		RunE: func(cmd *cobra.Command, args []string) error {
			if body.Partitions < 0 {
				return &UsageError{fmt.Sprintf("--partitions %d: want 0 (the broker's default) or more", body.Partitions)}
			}
			if body.ReplicationFactor < 0 {
				return &UsageError{fmt.Sprintf("--replication-factor %d: want 0 (min(3, brokers)) or more", body.ReplicationFactor)}
			}
			set, err := assignments("--config ", configs)
			if err != nil {
				return err
			}
			body.Name, body.Configs = args[0], set
			var out Topic
			err = e.client(cmd).call(cmd.Context(), http.MethodPost, "/api/v1/topics", body, &out)
			verb := "created"
			if body.DryRun {
				verb = "could be created"
			}
			if err != nil && ifNotExists && strings.Contains(err.Error(), "already exists") {
				verb = "exists already"
				err = e.client(cmd).call(cmd.Context(), http.MethodGet, topicPath(args[0]), nil, &out)
			}
			if err != nil {
				return err
			}
			if verb == "exists already" {
				for _, differs := range body.unlike(out) {
					fmt.Fprintf(cmd.ErrOrStderr(), "note: topic %s was left as it is: %s\n", out.Name, differs)
				}
			}
			out.PartitionList = nil
			return e.print(out, func() {
				fmt.Fprintf(e.stdout, "topic %s %s: %s, replication factor %d\n", out.Name, verb, plural(out.Partitions, "partition"), out.ReplicationFactor)
			})
		},
	}
	flags := cmd.Flags()
	flags.Int32VarP(&body.Partitions, "partitions", "p", 0, "partitions (0: the broker's default)")
	flags.Int16VarP(&body.ReplicationFactor, "replication-factor", "r", 0, "replicas of each partition (0: min(3, brokers))")
	flags.StringArrayVarP(&configs, "config", "c", nil, "`KEY=VALUE`, may be repeated")
	flags.BoolVar(&ifNotExists, "if-not-exists", false, "succeed when the topic is there")
	flags.BoolVar(&body.DryRun, "dry-run", false, "only check")
	return cmd
}

// unlike says in what a topic that is there is not as it was to be made.
func (n NewTopic) unlike(is Topic) (differs []string) {
	if n.Partitions != 0 && int(n.Partitions) != is.Partitions {
		differs = append(differs, fmt.Sprintf("it has %s, not %d", plural(is.Partitions, "partition"), n.Partitions))
	}
	if n.ReplicationFactor != 0 && int(n.ReplicationFactor) != int(is.ReplicationFactor) {
		differs = append(differs, fmt.Sprintf("its replication factor is %d, not %d", is.ReplicationFactor, n.ReplicationFactor))
	}
	for _, key := range slices.Sorted(maps.Keys(n.Configs)) {
		if value, set := is.Configs[key]; !set {
			differs = append(differs, fmt.Sprintf("%s is not set on it, to be %q", key, n.Configs[key]))
		} else if value != n.Configs[key] {
			differs = append(differs, fmt.Sprintf("%s is %q, not %q", key, value, n.Configs[key]))
		}
	}
	return differs
}

func (e *env) listTopics() *cobra.Command {
	var internal bool
	cmd := &cobra.Command{
		Use: "list", Short: "List topics", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var out struct {
				Topics []Topic `json:"topics"`
			}
			if err := e.client(cmd).call(cmd.Context(), http.MethodGet, "/api/v1/topics?internal="+strconv.FormatBool(internal), nil, &out); err != nil {
				return err
			}
			return e.print(out.Topics, func() {
				t := e.table("TOPIC", "PARTITIONS", "REPLICAS", "OFFSETS", "IN BUCKET", "IN WAL", "IN MEMORY")
				for _, topic := range out.Topics {
					t.AppendRow(table.Row{topic.Name, topic.Partitions, topic.ReplicationFactor, topic.Records, size(topic.BucketBytes), size(topic.WALBytes), size(topic.MemoryBytes)})
				}
				t.Render()
			})
		},
	}
	cmd.Flags().BoolVar(&internal, "internal", false, "internal topics too")
	return cmd
}

func (e *env) describeTopic() *cobra.Command {
	return &cobra.Command{
		Use: "describe TOPIC", Short: "Show a topic, its partitions, and what an ack of it means", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var out Topic
			if err := e.client(cmd).call(cmd.Context(), http.MethodGet, topicPath(args[0]), nil, &out); err != nil {
				return err
			}
			return e.print(out, func() { e.showTopic(out) })
		},
	}
}

func (e *env) showTopic(topic Topic) {
	fmt.Fprintf(e.stdout, "topic       %s (id %s)\n", topic.Name, topic.ID)
	fmt.Fprintf(e.stdout, "records     at most %d in %s, replication factor %d\n", topic.Records, plural(topic.Partitions, "partition"), topic.ReplicationFactor)
	if topic.Grows {
		fmt.Fprintln(e.stdout, "grows       nobody asked for a replication factor: it becomes 3, or as many as there are brokers, once others are in service")
	}
	fmt.Fprintf(e.stdout, "bytes       %s in the bucket; %s in the WAL, %s of them in memory\n", size(topic.BucketBytes), size(topic.WALBytes), size(topic.MemoryBytes))
	fmt.Fprintf(e.stdout, "durability  %s\n", topic.Durability)
	for _, key := range slices.Sorted(maps.Keys(topic.Configs)) {
		fmt.Fprintf(e.stdout, "config      %s = %s\n", key, topic.Configs[key])
	}
	fmt.Fprintln(e.stdout)
	t := e.table("PARTITION", "LEADER", "EPOCH", "REPLICAS", "ISR", "LOG START", "LOCAL START", "HIGH WATERMARK", "IN BUCKET", "IN WAL", "IN MEMORY")
	for _, p := range topic.PartitionList {
		t.AppendRow(table.Row{p.Partition, p.Leader, p.LeaderEpoch, ids(p.Replicas), ids(p.ISR), p.LogStart, p.LocalStart, p.HighWatermark, size(p.BucketBytes), size(p.WALBytes), size(p.MemoryBytes)})
	}
	t.Render()
}

func (e *env) alterTopic() *cobra.Command {
	var set, remove []string
	var dry bool
	cmd := &cobra.Command{
		Use: "alter TOPIC", Short: "Set or delete configs of a topic", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			values, err := assignments("--set ", set)
			if err != nil {
				return err
			}
			if len(values)+len(remove) == 0 {
				return &UsageError{"nothing to alter: give --set KEY=VALUE or --delete KEY"}
			}
			var was, out Topic
			client := e.client(cmd)
			if dry { // what is set is told by a change of nothing to who may change it
				if err := client.call(cmd.Context(), http.MethodPatch, topicPath(args[0]), ConfigPatch{DryRun: true}, &was); err != nil {
					return err
				}
			}
			if err := client.call(cmd.Context(), http.MethodPatch, topicPath(args[0]), ConfigPatch{Set: values, Delete: remove, DryRun: dry}, &out); err != nil {
				return err
			}
			out.PartitionList = nil
			return e.print(out, func() {
				if dry {
					e.showChange(was, out)
					return
				}
				fmt.Fprintf(e.stdout, "topic %s altered\n", out.Name)
			})
		},
	}
	cmd.Flags().StringArrayVarP(&set, "set", "s", nil, "`KEY=VALUE`, may be repeated")
	cmd.Flags().StringArrayVarP(&remove, "delete", "d", nil, "`KEY` that goes back to its default, may be repeated")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "say what would change, and change nothing")
	return cmd
}

// showChange shows what is set on a topic, and what would be.
func (e *env) showChange(was, would Topic) {
	keys := maps.Clone(was.Configs)
	maps.Copy(keys, would.Configs)
	shown := func(of Topic, key string) string {
		if value, set := of.Configs[key]; set {
			return value
		}
		return "(default)"
	}
	t := e.table("CONFIG", "IS", "WOULD BE")
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if is, would := shown(was, key), shown(would, key); is != would {
			t.AppendRow(table.Row{key, is, would})
		}
	}
	t.Render()
	fmt.Fprintf(e.stdout, "topic %s could be altered; nothing was changed (--dry-run)\n", would.Name)
}

func (e *env) deleteTopic() *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use: "delete TOPIC", Short: "Delete a topic and all its records", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if dryRun {
				var out Topic
				if err := e.client(cmd).call(cmd.Context(), http.MethodGet, topicPath(args[0]), nil, &out); err != nil {
					return err
				}
				return e.print(out, func() {
					fmt.Fprintf(e.stdout, "would delete topic %s with at most %d records, %s\n", out.Name, out.Records, size(max(out.WALBytes, out.BucketBytes)))
				})
			}
			if err := e.client(cmd).call(cmd.Context(), http.MethodDelete, topicPath(args[0]), nil, nil); err != nil {
				return err
			}
			return e.print(map[string]string{"deleted": args[0]}, func() { fmt.Fprintf(e.stdout, "topic %s deleted\n", args[0]) })
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only say what would be deleted")
	return cmd
}

func (e *env) addPartitions() *cobra.Command {
	return &cobra.Command{
		Use: "add-partitions TOPIC TOTAL", Short: "Grow a topic to TOTAL partitions", Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			total, err := strconv.ParseInt(args[1], 10, 32)
			if err != nil || total < 1 {
				return &UsageError{fmt.Sprintf("TOTAL %q: want a number of partitions from 1", args[1])}
			}
			var out Topic
			if err := e.client(cmd).call(cmd.Context(), http.MethodPost, topicPath(args[0])+"/partitions", PartitionCount{Total: int32(total)}, &out); err != nil {
				return err
			}
			out.PartitionList = nil
			return e.print(out, func() { fmt.Fprintf(e.stdout, "topic %s has %s\n", out.Name, plural(out.Partitions, "partition")) })
		},
	}
}

// assignments reads KEY=VALUE, which flag is before; "" for arguments.
func assignments(flag string, given []string) (map[string]string, error) {
	out := map[string]string{}
	for _, pair := range given {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" {
			return nil, &UsageError{fmt.Sprintf("%s%q: want KEY=VALUE", flag, pair)}
		}
		out[key] = value
	}
	return out, nil
}

func ids(nodes []int32) string {
	text := make([]string, len(nodes))
	for i, n := range nodes {
		text[i] = strconv.Itoa(int(n))
	}
	return strings.Join(text, ",")
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}

// size shows bytes as a person reads them.
func size(n int64) string { return configs.Size(n).Rounded() }
