package roles

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"rustmq.dev/rustmq/consensus"
	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage/disk"
)

// raftLine is what debug raft prints of a frame of the metadata log.
type raftLine struct {
	File    string                  `json:"file"`
	At      int64                   `json:"at"`
	Kind    consensus.InspectedKind `json:"kind"`
	Copy    bool                    `json:"copy,omitempty"`
	Index   uint64                  `json:"index"`
	Term    uint64                  `json:"term"`
	Command string                  `json:"command,omitempty"` // its name
	Bytes   int                     `json:"bytes,omitempty"`   // of the command
	Body    json.RawMessage         `json:"body,omitempty"`    // without secrets; with --bodies
	Members []raftMember            `json:"members,omitempty"`
	State   *raftState              `json:"state,omitempty"`
}

type raftMember struct {
	ID        uint64 `json:"id"`
	Directory string `json:"directory"`
}

// raftState is what a member has promised.
type raftState struct {
	Node      uint64 `json:"node"`
	Directory string `json:"directory"`
	Term      uint64 `json:"term"`
	Vote      uint64 `json:"vote"`
	Commit    uint64 `json:"commit"`
	Base      uint64 `json:"base"`
}

// raftSnapshot is what is printed of a snapshot.
type raftSnapshot struct {
	Snapshot string        `json:"snapshot"` // its file
	Bytes    int64         `json:"bytes"`
	Index    uint64        `json:"index"`
	Term     uint64        `json:"term"`
	Voters   []uint64      `json:"voters"`
	Learners []uint64      `json:"learners,omitempty"`
	Received bool          `json:"received,omitempty"`
	Members  []raftMember  `json:"members"`
	State    *raftMetadata `json:"state,omitempty"`
}

// raftMetadata is how much the metadata of a snapshot are.
type raftMetadata struct {
	Cluster      string `json:"cluster"`
	FeatureLevel uint32 `json:"feature_level"`
	Brokers      int    `json:"brokers"`
	Topics       int    `json:"topics"`
	Partitions   int    `json:"partitions"`
	Objects      int    `json:"objects"`
	Ranges       int    `json:"ranges"`
	ACLs         int    `json:"acls"`
	Users        int    `json:"users"`
}

func (d walDamage) text() string { return fmt.Sprintf("%s@%d DAMAGED: %s", d.File, d.At, d.Damage) }

// raftFlags are those of `rustmq debug raft`.
type raftFlags struct {
	output string
	bodies bool
	after  uint64
}

func debugRaft(stdout io.Writer) *cobra.Command {
	var f raftFlags
	cmd := &cobra.Command{
		Use: "raft DIR", Short: "Print the metadata log of a controller, and its snapshots", Args: cobra.ExactArgs(1),
		Long: "Prints one line for each snapshot, and one for each frame of the metadata log: entries with their index, term and command, what the controller has promised\n" +
			"(state), and what was cut (truncate, trim). DIR is a data directory, or its raft/. Damage is named and stepped over. Secrets are left out of commands.\n" +
			"Nothing is changed; a running controller may append meanwhile.",
		Example: "  rustmq debug raft /var/lib/rustmq\n  rustmq debug raft /var/lib/rustmq --after 4000 --bodies -o json",
		RunE: func(_ *cobra.Command, args []string) error {
			if f.output != "text" && f.output != "json" {
				return &flagError{fmt.Errorf("--output %q: want text or json", f.output)}
			}
			return f.run(args[0], printLines(stdout, f.output == "json"))
		},
	}
	cmd.Flags().BoolVar(&f.bodies, "bodies", false, "commands whole, as JSON")
	cmd.Flags().Uint64Var(&f.after, "after", 0, "only entries behind this `INDEX`")
	cmd.Flags().StringVarP(&f.output, "output", "o", "text", "text or json (one object a line)")
	return cmd
}

func (f *raftFlags) run(dir string, print func(interface{ text() string }) error) error {
	root, log := dir, raftDir
	switch _, err := os.Stat(filepath.Join(dir, raftDir)); {
	case errors.Is(err, fs.ErrNotExist): // it may be raft/ itself
		abs, err := filepath.Abs(dir)
		if err != nil {
			return err
		}
		root, log = filepath.Dir(abs), filepath.Base(abs)
	case err != nil:
		return fmt.Errorf("open the metadata log: %w", err)
	}
	if _, err := os.Stat(filepath.Join(root, log)); err != nil {
		return fmt.Errorf("open the metadata log: %w", err)
	}
	tree, err := disk.OpenOS(root)
	if err != nil {
		return err
	}
	found := 0
	err = consensus.InspectSnapshots(tree, snapshotsDir, func(s consensus.InspectedSnapshot) error {
		found++
		if s.Problem != "" {
			return print(walDamage{File: s.File, Damage: s.Problem})
		}
		return print(describeSnapshot(s))
	})
	if err != nil {
		return err
	}
	err = consensus.Inspect(tree, log, func(frame consensus.InspectedFrame) error {
		if frame.Problem != "" {
			return print(walDamage{frame.File, frame.At, frame.Problem})
		}
		found++
		if frame.Kind != consensus.InspectedState && frame.Index <= f.after && f.after > 0 {
			return nil
		}
		return print(f.describe(frame))
	})
	if err == nil && found == 0 {
		return fmt.Errorf("neither an entry nor a snapshot in %s: name the data directory of a controller, or its raft/", dir)
	}
	return err
}

// describe is the line of a frame. A command that this binary does not know is no damage.
func (f *raftFlags) describe(frame consensus.InspectedFrame) raftLine {
	line := raftLine{
		File: frame.File, At: frame.At, Kind: frame.Kind, Copy: frame.Copy, Index: frame.Index, Term: frame.Term,
		Bytes: len(frame.Command), Members: raftMembers(frame.Members),
	}
	if frame.Kind == consensus.InspectedCommand {
		name, body, err := metadata.Describe(frame.Command)
		if err != nil {
			name = "unknown"
		}
		line.Command = name
		if f.bodies {
			line.Body = body
		}
	}
	if s := frame.State; s != nil {
		line.State = &raftState{s.Member.ID, hex.EncodeToString(s.Member.Directory[:]), s.Term, s.Vote, s.Commit, s.Base}
	}
	return line
}

func raftMembers(members []consensus.Member) (all []raftMember) {
	for _, m := range members {
		all = append(all, raftMember{m.ID, hex.EncodeToString(m.Directory[:])})
	}
	return all
}

func describeSnapshot(s consensus.InspectedSnapshot) interface{ text() string } {
	line := raftSnapshot{
		Snapshot: s.File, Bytes: s.Bytes, Index: s.Index, Term: s.Term, Voters: s.Voters, Learners: s.Learners, Received: s.Received, Members: raftMembers(s.Members),
	}
	if len(s.State) == 0 {
		return line
	}
	state := metadata.NewState()
	if err := state.Restore(s.State); err != nil {
		return walDamage{File: s.File, Damage: err.Error()}
	}
	m := state.Image()
	line.State = &raftMetadata{
		Cluster: m.ClusterID(), FeatureLevel: m.FeatureLevel(), Topics: m.NumTopics(), Partitions: m.NumPartitions(),
		Objects: m.NumObjects(metadata.Committed), Ranges: m.NumRanges(), ACLs: m.NumACLs(), Users: m.NumUsers(),
	}
	for range m.Brokers() {
		line.State.Brokers++
	}
	return line
}

func (l raftLine) text() string {
	var s strings.Builder
	fmt.Fprintf(&s, "%s@%d %s", l.File, l.At, l.Kind)
	if l.State != nil {
		fmt.Fprintf(&s, " node=%d directory=%s term=%d vote=%d commit=%d base=%d", l.State.Node, l.State.Directory, l.State.Term, l.State.Vote, l.State.Commit, l.State.Base)
	} else {
		fmt.Fprintf(&s, " index=%d term=%d", l.Index, l.Term)
	}
	if l.Command != "" {
		fmt.Fprintf(&s, " %s bytes=%d", l.Command, l.Bytes)
	}
	if len(l.Members) > 0 {
		s.WriteString(" members=" + membersText(l.Members))
	}
	if l.Copy {
		s.WriteString(" copy")
	}
	if l.Body != nil {
		if plain, err := json.Marshal(l.Body); err == nil { // without the spaces that protojson adds
			s.WriteString(" " + string(plain))
		}
	}
	return s.String()
}

func membersText(members []raftMember) string {
	text := make([]string, len(members))
	for i, m := range members {
		text[i] = fmt.Sprintf("%d/%s", m.ID, m.Directory)
	}
	return strings.Join(text, ",")
}

func (s raftSnapshot) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "snapshot %s index=%d term=%d bytes=%d voters=%v members=%s", s.Snapshot, s.Index, s.Term, s.Bytes, s.Voters, membersText(s.Members))
	if len(s.Learners) > 0 {
		fmt.Fprintf(&b, " learners=%v", s.Learners)
	}
	if s.Received {
		b.WriteString(" received")
	}
	if m := s.State; m != nil {
		fmt.Fprintf(&b, " cluster=%s level=%d brokers=%d topics=%d partitions=%d objects=%d ranges=%d acls=%d users=%d", m.Cluster, m.FeatureLevel, m.Brokers, m.Topics, m.Partitions, m.Objects, m.Ranges, m.ACLs, m.Users)
	}
	return b.String()
}
