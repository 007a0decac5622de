package roles

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rustmq.dev/rustmq/configs"
	"rustmq.dev/rustmq/consensus"
	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/admin"
	"rustmq.dev/rustmq/roles/client"
	"rustmq.dev/rustmq/roles/controller/recovery"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/disk"
)

// Directories of a controller in the data directory: consensus's defaults.
const (
	raftDir      = "raft"
	snapshotsDir = "snapshots"
)

// recoverFlags are those of `rustmq admin cluster recover`.
type recoverFlags struct {
	from, prefix, cluster string
	config                string
	set                   []string
	dataDir, brokers      string
	nodeID                int32
	dryRun, force, join   bool
	torn                  string // keep or cut
	backup                string // file of `cluster backup`; empty: none
	output                string // of the admin command
	cloud                 Cloud
	stdout                io.Writer
}

// recoverCommand is `rustmq admin cluster recover`. It works on a data directory and a
// bucket, for there is no server that could: like `storage probe URL` it does not speak
// REST.
func recoverCommand(stdout io.Writer, cloud Cloud) *cobra.Command {
	f := recoverFlags{stdout: stdout, cloud: cloud}
	cmd := &cobra.Command{
		Use: "recover --from URL --node-id N --data-dir DIR", Args: cobra.NoArgs,
		Short: "Bring back a cluster whose controllers' disks are lost, from its bucket",
		Long: "Reads the metadata log in the bucket, ends the life of the cluster that wrote it, and makes DIR the data directory of the one controller that the next life begins with.\n" +
			"Stop all nodes first: one that still runs answers through the bucket, which is waited for for some seconds, and the cluster is left as it is. --dry-run says what is there, and what is not, and changes nothing. docs/cluster.md has the whole way.",
		Example: "  rustmq admin cluster recover --from 's3://streams?region=eu-central-1' --dry-run\n" +
			"  rustmq admin cluster recover --from 's3://streams?region=eu-central-1' --node-id 1 --data-dir /var/lib/rustmq --brokers 1,2,3\n" +
			"  rustmq admin cluster recover --join --node-id 2 --data-dir /var/lib/rustmq",
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if f.output, err = cmd.Flags().GetString("output"); err != nil {
				return err
			}
			return f.run(cmd.Context())
		},
	}
	admin.AsksNoServer(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.from, "from", "", "`URL` of the bucket, as of serve --bucket")
	flags.StringVar(&f.prefix, "prefix", "", "of the keys in the bucket, if object_storage.prefix is set")
	flags.StringVar(&f.cluster, "cluster", "", "`ID` of the cluster, if the bucket has several")
	flags.StringVar(&f.config, "config", "", "TOML `FILE` with what else is needed to reach the bucket")
	flags.StringArrayVar(&f.set, "set", nil, "`section.key=value`, may be repeated")
	flags.StringVar(&f.dataDir, "data-dir", "", "data directory of the controller: empty, or one that has lost its raft/ and snapshots/")
	flags.Int32Var(&f.nodeID, "node-id", 0, "id of the controller")
	flags.StringVar(&f.brokers, "brokers", "", "ids of the brokers whose data directories are there, e.g. 1,3: no partition is led before those of its replicas were heard (default: all)")
	flags.BoolVar(&f.dryRun, "dry-run", false, "say what is found, and change nothing")
	flags.StringVar(&f.torn, "torn", "keep", "what becomes of transactions that are committed and of which a part is lost: keep what is there of them, or cut their partitions before them, and all that lies behind (--dry-run shows where)")
	flags.StringVar(&f.backup, "backup", "", "`FILE` of `admin cluster backup`: passwords and API tokens, which the bucket does not have, are as they were when it was made")
	flags.BoolVar(&f.force, "force", false, "do not ask first whether a controller still runs, and shut out one that does; and go on with a store that has no conditional writes, where one would not be noticed")
	flags.BoolVar(&f.join, "join", false, "for another controller: have DIR, whose raft/ is lost, wait to be added to the group that there is")
	return cmd
}

func (f *recoverFlags) run(ctx context.Context) error {
	usage := func(format string, args ...any) error { return &flagError{fmt.Errorf(format, args...)} }
	switch {
	case f.torn != "keep" && f.torn != "cut":
		return usage("--torn %q: want keep or cut", f.torn)
	case f.join && (f.backup != "" || f.from != "" || f.torn != "keep" || f.dryRun || f.force || f.brokers != ""):
		return usage("--join looks at the data directory alone: give --node-id and --data-dir with it")
	case f.join && (f.dataDir == "" || f.nodeID < 1):
		return usage("--join: which node is it, and where? give --node-id and --data-dir")
	case f.join:
		return f.waitToBeAdded()
	case f.from == "":
		return usage("from which bucket? give --from, the URL that serve had as --bucket")
	case !f.dryRun && (f.dataDir == "" || f.nodeID < 1):
		return usage("of which controller? give --node-id and --data-dir, or --dry-run to look first")
	}
	brokers, err := f.brokerIDs()
	if err != nil {
		return err
	}
	b, prefix, err := f.open(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	if f.dryRun {
		plan, err := f.plan(ctx, b, prefix, brokers)
		if err != nil {
			return err
		}
		return f.say(plan, "")
	}
	if _, err := os.Stat(f.dataDir); errors.Is(err, fs.ErrNotExist) {
		if _, err := f.plan(ctx, b, prefix, brokers); err != nil {
			return err // before the directory is made
		}
	}
	return f.seed(func(dir *disk.OS, id *identity) error {
		if f.cluster == "" {
			f.cluster = id.ClusterID
		}
		plan, err := f.plan(ctx, b, prefix, brokers)
		if err != nil {
			return err
		}
		if id.ClusterID != "" && id.ClusterID != plan.Cluster {
			return fmt.Errorf("the data directory %s belongs to cluster %s, and the bucket is asked for %s: name another --data-dir", dir.Root(), id.ClusterID, plan.Cluster)
		}
		directory, err := id.memberID()
		if err != nil {
			return err
		}
		if !f.force {
			if err := plan.Ask(ctx); err != nil {
				return err
			}
		}
		if err := plan.CutTorn(ctx); err != nil {
			return err
		}
		life, err := plan.Begin(ctx, f.force)
		if errors.Is(err, bucket.ErrUnsupported) {
			return fmt.Errorf("%w: two that recover at once, or a controller that still runs, would not be noticed. Make sure that all are stopped, and give --force", err)
		}
		if err != nil {
			return err
		}
		if err := consensus.Seed(ctx, consensus.SeedOptions{
			Member: consensus.Member{ID: uint64(f.nodeID), Directory: directory}, Index: life.Index, Term: life.Term, State: life.State, FS: dir,
		}); err != nil {
			return fmt.Errorf("make the metadata log in %s: %w; empty %s/ and %s/ there and give the command again", dir.Root(), err, raftDir, snapshotsDir)
		}
		id.ClusterID, id.BucketNonce, id.Raft = plan.Cluster, hex.EncodeToString(plan.Nonce[:]), raftJoined
		if err := id.save(dir); err != nil {
			return err
		}
		return f.say(plan, dir.Root())
	})
}

// brokerIDs reads --brokers; nil: all.
func (f *recoverFlags) brokerIDs() ([]int32, error) {
	if f.brokers == "" {
		return nil, nil
	}
	ids := []int32{}
	for word := range strings.SplitSeq(f.brokers, ",") {
		if word == "none" {
			continue
		}
		id, err := strconv.ParseInt(strings.TrimSpace(word), 10, 32)
		if err != nil || id < 0 {
			return nil, &flagError{fmt.Errorf("--brokers %q: want ids such as 1,2,3, or none", f.brokers)}
		}
		ids = append(ids, int32(id))
	}
	return ids, nil
}

// open opens the bucket as a node would. A directory is not made: a typing error is not to
// be told that the bucket is empty.
func (f *recoverFlags) open(ctx context.Context) (bucket.Bucket, string, error) {
	flags := []configs.Setting{{Key: "object_storage.url", Value: f.from, Origin: "--from"}}
	if f.prefix != "" {
		flags = append(flags, configs.Setting{Key: "object_storage.prefix", Value: f.prefix, Origin: "--prefix"})
	}
	c, err := configs.Load(configs.Sources{File: f.config, Environ: os.Environ(), Set: f.set, Flags: flags})
	if err != nil {
		return nil, "", err
	}
	if u, err := url.Parse(f.from); err == nil && u.Scheme == "file" {
		if _, err := os.Stat(u.Path); err != nil {
			return nil, "", fmt.Errorf("open the bucket: %w: give --from as serve had --bucket; a path is one of this machine", err)
		}
	}
	b, _, err := f.cloud.bucketAt(ctx, c.Storage, nil, "", "", false)
	if err != nil {
		return nil, "", fmt.Errorf("open the bucket: %w", err)
	}
	return bucket.NewResilient(b, bucket.ResilientOptions{}), c.Storage.Prefix, nil
}

// readBackup reads --backup; nil: it was not given.
func (f *recoverFlags) readBackup() (*metadata.Image, error) {
	if f.backup == "" {
		return nil, nil
	}
	raw, err := os.ReadFile(f.backup)
	if err != nil {
		return nil, fmt.Errorf("--backup: %w", err)
	}
	state := metadata.NewState()
	if err := state.Restore(raw); err != nil {
		return nil, fmt.Errorf("--backup %s is no file of `rustmq admin cluster backup`: %w", f.backup, err)
	}
	return state.Image(), nil
}

// plan reads the bucket.
func (f *recoverFlags) plan(ctx context.Context, b bucket.Bucket, prefix string, brokers []int32) (*recovery.Plan, error) {
	cluster := f.cluster
	if cluster == "" {
		ids, err := recovery.Clusters(ctx, b, prefix)
		switch {
		case err != nil:
			return nil, err
		case len(ids) == 0:
			return nil, fmt.Errorf("no cluster stores in %s under the prefix %q: set --from and --prefix to what object_storage.url and object_storage.prefix were", f.from, prefix)
		case len(ids) > 1:
			return nil, fmt.Errorf("several clusters store there: name one by --cluster: %s", strings.Join(ids, ", "))
		}
		cluster = ids[0]
	}
	kept, err := f.readBackup()
	if err != nil {
		return nil, err
	}
	plan, err := recovery.Read(ctx, recovery.Options{Bucket: b, Prefix: prefix, Cluster: cluster, Brokers: brokers, CutTorn: f.torn == "cut", Secrets: kept})
	if err != nil {
		if ids, listed := recovery.Clusters(ctx, b, prefix); listed == nil && !slices.Contains(ids, cluster) {
			return nil, fmt.Errorf("recover cluster %s: %w: these store there: %s", cluster, err, cmp.Or(strings.Join(ids, ", "), "none"))
		}
		return nil, fmt.Errorf("recover cluster %s: %w", cluster, err)
	}
	for _, id := range brokers {
		if !slices.Contains(plan.Brokers, id) {
			return nil, &flagError{fmt.Errorf("--brokers: the cluster has no broker %d; it has %v", id, plan.Brokers)}
		}
	}
	return plan, nil
}

// seed calls do with a data directory that no process uses, and that has no metadata log,
// and with its identity, which do saves: as a controller it is another member than it was,
// for what it has lost had votes in it.
func (f *recoverFlags) seed(do func(*disk.OS, *identity) error) (err error) {
	dir, err := disk.OpenOS(f.dataDir)
	if err != nil {
		return fmt.Errorf("open the data directory: %w", err)
	}
	lock, err := dir.Lock("lock")
	if err != nil {
		return fmt.Errorf("lock the data directory: %w: stop the node first", err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if err := consensus.Unseeded(dir, raftDir, snapshotsDir); err != nil {
		return fmt.Errorf("the data directory %s has not lost its metadata log: %w. While most controllers have theirs, the cluster needs no recovery: start them. Else, or if a recover was ended on its way there, move %s/ and %s/ away, and give the command again", dir.Root(), err, raftDir, snapshotsDir)
	}
	id, _, err := readIdentity(dir, f.nodeID)
	if err != nil {
		return err
	}
	if id.Member, err = newDirectoryID(); err != nil {
		return err
	}
	return do(dir, &id)
}

// waitToBeAdded makes a directory that has lost its metadata log that of a controller which
// waits: it has voted, in a group that is gone or as a member of one that runs on.
func (f *recoverFlags) waitToBeAdded() error {
	return f.seed(func(dir *disk.OS, id *identity) error {
		if id.ClusterID == "" {
			return fmt.Errorf("the data directory %s belongs to no cluster yet: start it as it is, with the controllers of the cluster as its --peers, and add it", dir.Root())
		}
		id.Raft = raftNone
		if err := id.save(dir); err != nil {
			return err
		}
		_, err := fmt.Fprintf(f.stdout, "%s waits to be added: start node %d as before, then `rustmq admin controllers add %d`; where the controllers still have it as the member that it was, `remove %d` before\n", dir.Root(), id.NodeID, id.NodeID, id.NodeID)
		return err
	})
}

// Recovered is what recover says.
type Recovered struct {
	DryRun      bool                 `json:"dry_run"`
	Cluster     string               `json:"cluster"`
	Incarnation uint32               `json:"incarnation" doc:"of the life that ended"`
	Entries     int                  `json:"entries" doc:"of the metadata log that were read"`
	Written     time.Time            `json:"written" doc:"when the last one was: changes of metadata since then are lost"`
	Brokers     []int32              `json:"brokers" doc:"that are registered"`
	Taken       []string             `json:"taken" doc:"objects that nobody had committed, and that are named now"`
	Damaged     []string             `json:"damaged" doc:"uploads that nobody had committed, and that are not whole: left out"`
	LeftOut     []string             `json:"left_out" doc:"whole ones that do not join: others come further, or replicas that are awaited have what is in line"`
	Torn        []recovery.Torn      `json:"torn" doc:"transactions that are known to be committed, and of which a part is lost; of partitions that no broker is awaited for"`
	UnknownTorn string               `json:"torn_unknown,omitempty" doc:"why torn transactions could not be looked for"`
	Cut         []recovery.Cut       `json:"cut" doc:"with --torn cut: partitions that end before what they have of torn transactions, and what is given up with it"`
	Beyond      []recovery.Beyond    `json:"beyond" doc:"offsets that groups have committed behind what is left of a partition: what lies between was there, and is lost; of partitions that no broker is awaited for"`
	UnknownEnds string               `json:"beyond_unknown,omitempty" doc:"why those could not be looked for"`
	Partitions  []recovery.Partition `json:"partitions"`
	Next        []string             `json:"next" doc:"what to do now"`
}

// say prints what was found, what is not there, and what comes next.
func (f *recoverFlags) say(p *recovery.Plan, dir string) error {
	out := Recovered{
		DryRun: f.dryRun, Cluster: p.Cluster, Incarnation: p.Incarnation, Entries: p.Entries, Written: p.Written, Brokers: p.Brokers,
		Taken: []string{}, LeftOut: []string{}, Torn: append([]recovery.Torn{}, p.Torn...), Cut: append([]recovery.Cut{}, p.Cuts...), Damaged: append([]string{}, p.Damaged...), Partitions: append([]recovery.Partition{}, p.Partitions...),
	}
	for _, id := range p.Taken {
		out.Taken = append(out.Taken, id.String())
	}
	for _, id := range p.LeftOut {
		out.LeftOut = append(out.LeftOut, id.String())
	}
	if p.UnknownTorn != nil {
		out.UnknownTorn = p.UnknownTorn.Error()
	}
	out.Beyond = append([]recovery.Beyond{}, p.Beyond...)
	if p.UnknownBeyond != nil {
		out.UnknownEnds = p.UnknownBeyond.Error()
	}
	if f.dryRun {
		out.Next = []string{
			"nothing was changed: stop all nodes, and give the command without --dry-run, with --node-id, --data-dir and, if data directories of brokers are lost, --brokers",
		}
	} else {
		out.Next = []string{
			fmt.Sprintf("start node %d on %s as before: it is the only controller, and the others are not waited for", f.nodeID, dir),
			"on each other controller: move away raft/ and snapshots/ where they are left, rustmq admin cluster recover --join --node-id N --data-dir DIR, start it, rustmq admin controllers add N",
			"start all brokers whose data directories are there; a partition is led once those of its replicas that are awaited were heard",
			"to go on without one that does not come: kafka-leader-election.sh --election-type unclean; what only it had is lost then",
			"passwords and API tokens are not kept in the bucket: rustmq admin users list and tokens list say which are to be set, or made, anew",
		}
		if f.backup != "" {
			out.Next = append(out.Next, fmt.Sprintf("%d passwords and %d API tokens are as they were when the backup was made: set and revoke again those that were changed or taken back since", p.Passwords, p.Tokens))
		}
	}
	if len(p.Beyond) > 0 {
		out.Next = append(out.Next, "what groups have committed behind the end is set back by their coordinators once its partition is led, as their logs say; a consumer that read its offset before goes on by its auto.offset.reset. The commands that set offsets back before are listed")
	}
	if f.output == "yaml" { // through JSON, so that both have the same names
		raw, err := json.Marshal(out)
		if err != nil {
			return err
		}
		var plain any
		if err := json.Unmarshal(raw, &plain); err != nil {
			return err
		}
		return client.Print(f.stdout, f.output, plain, nil)
	}
	return client.Print(f.stdout, f.output, out, func() error {
		_, err := io.WriteString(f.stdout, out.text())
		return err
	})
}

// listed is "1, 2, 3".
func listed(ids []int32) string {
	words := make([]string, len(ids))
	for i, id := range ids {
		words[i] = strconv.Itoa(int(id))
	}
	return strings.Join(words, ", ")
}

// text is what a person is told.
func (r *Recovered) text() string {
	w := &strings.Builder{}
	fmt.Fprintf(w, "cluster %s, incarnation %d: %d entries of its metadata log, the last of %s; changes of metadata since then are lost\n",
		r.Cluster, r.Incarnation, r.Entries, r.Written.UTC().Format(time.RFC3339))
	fmt.Fprintf(w, "brokers %s; %d uploads that nobody had committed are taken, %d do not join and %d are not whole: these are left out\n\n",
		listed(r.Brokers), len(r.Taken), len(r.LeftOut), len(r.Damaged))
	fmt.Fprintf(w, "%-40s %12s %12s  %s\n", "PARTITION", "FROM", "IN BUCKET TO", "WHAT LIES BEHIND")
	lost := 0
	for _, is := range r.Partitions {
		behind := fmt.Sprintf("what brokers %s have", listed(is.Awaited))
		switch {
		case is.Held:
			behind = "nothing: an ack waited for the bucket"
		case len(is.Awaited) == 0:
			lost++
			behind = "LOST: no broker that has it is named"
		}
		fmt.Fprintf(w, "%-40s %12d %12d  %s\n", fmt.Sprintf("%s-%d", is.Topic, is.Partition), is.LogStart, is.End, behind)
	}
	for _, d := range r.Damaged {
		fmt.Fprintf(w, "damaged: %s\n", d)
	}
	if lost > 0 {
		fmt.Fprintf(w, "\nof %d partitions all that is not in the bucket is lost\n", lost)
	}
	r.tornText(w)
	r.beyondText(w)
	fmt.Fprintln(w)
	for _, next := range r.Next {
		fmt.Fprintf(w, "- %s\n", next)
	}
	return w.String()
}

// tornText is what a person is told of transactions.
func (r *Recovered) tornText(w io.Writer) {
	if r.UnknownTorn != "" {
		fmt.Fprintf(w, "\ntorn transactions could not be looked for: %s\n", r.UnknownTorn)
	}
	if len(r.Torn) == 0 {
		return
	}
	fmt.Fprintf(w, "\n%d transactions are committed and torn: readers see what is there of them as if it were all%s\n", len(r.Torn), map[bool]string{true: ", but for what is cut", false: " (--torn cut gives that up)"}[len(r.Cut) > 0])
	fmt.Fprintf(w, "%-32s %12s %6s  %-40s %s\n", "TRANSACTIONAL ID", "PRODUCER", "EPOCH", "PARTITION", "WHAT IS THERE")
	for _, t := range r.Torn {
		for _, p := range t.Parts {
			there := "not its end, and no record"
			switch {
			case p.Whole:
				there = "all"
			case p.First >= 0:
				there = fmt.Sprintf("not its end; records from offset %d on", p.First)
			}
			fmt.Fprintf(w, "%-32s %12d %6d  %-40s %s\n", t.TransactionalID, t.ProducerID, t.Epoch, fmt.Sprintf("%s-%d", p.Topic, p.Partition), there)
		}
	}
	r.cutText(w)
}

// cutText is what a person is told of what is cut.
func (r *Recovered) cutText(w io.Writer) {
	if len(r.Cut) == 0 {
		return
	}
	is := "were"
	if r.DryRun {
		is = "would be"
	}
	fmt.Fprintf(w, "\n%d partitions %s cut; all that lies behind is given up, and its offsets are given out anew:\n", len(r.Cut), is)
	fmt.Fprintf(w, "%-40s %12s %12s  %s\n", "PARTITION", "ENDED AT", "ENDS AT", "FOR")
	for _, c := range r.Cut {
		fmt.Fprintf(w, "%-40s %12d %12d  %s\n", fmt.Sprintf("%s-%d", c.Topic, c.Partition), c.End, c.At, strings.Join(c.For, ", "))
	}
}

// beyondText is what a person is told of committed offsets, as the commands that set them back.
func (r *Recovered) beyondText(w io.Writer) {
	if r.UnknownEnds != "" {
		fmt.Fprintf(w, "\ncommitted offsets could not be compared with what is left: %s\n", r.UnknownEnds)
	}
	if len(r.Beyond) == 0 {
		return
	}
	fmt.Fprintf(w, "\n%d committed offsets lie behind what is left of their partitions; this sets them back:\n", len(r.Beyond))
	for _, b := range r.Beyond {
		fmt.Fprintf(w, "rustmq admin groups reset-offsets %s --topic %s:%d --to-offset %d --execute  # is at %d: offsets %d to %d are lost\n",
			shellWord(b.Group), b.Topic, b.Partition, b.End, b.Committed, b.End, b.Committed-1)
	}
}
