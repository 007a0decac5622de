package admin

import (
	"context"
	"encoding/hex"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"rustmq.dev/rustmq/roles/controller"
)

// Controllers is what the API asks of the controllers of a cluster.
type Controllers interface {
	Members(context.Context) (*controller.Group, error)
	AddController(ctx context.Context, id uint64) error
	RemoveController(ctx context.Context, id uint64) error
}

// Waits of the API for controllers.
const (
	// membersWait is how long the leader may take to say who the members are, and
	// addWait how long a controller may take to catch up that is added.
	membersWait = 10 * time.Second
	// healthWait is membersWait of who asks how the cluster is, which is most of interest
	// when nobody leads.
	healthWait = 1500 * time.Millisecond
	addWait    = 50 * time.Second
)

// ControllerGroup is the controllers as the API shows them.
type ControllerGroup struct {
	Leader      uint64       `json:"leader"`
	Term        uint64       `json:"term" doc:"it grows with every election"`
	Committed   uint64       `json:"committed" doc:"index up to which a majority has the metadata log"`
	Snapshot    uint64       `json:"snapshot" doc:"index of the leader's newest snapshot"`
	Controllers []Controller `json:"controllers"`
}

// Controller is one of them.
type Controller struct {
	ID         uint64 `json:"id"`
	Role       string `json:"role" doc:"voter, learner (sent the log, without a vote yet), or waiting (no member: it is to be added)"`
	Leads      bool   `json:"leads"`
	Active     bool   `json:"active" doc:"heard of by the leader within the last election timeout"`
	Match      uint64 `json:"match" doc:"index up to which it has the metadata log"`
	Lag        uint64 `json:"lag" doc:"committed entries that it does not have"`
	Raft       string `json:"raft,omitempty" doc:"where other controllers reach it"`
	Controller string `json:"controller,omitempty" doc:"where brokers reach it"`
	Directory  string `json:"directory" doc:"id of its data directory"`
}

// Snapshot is the body of the answer to a snapshot.
type Snapshot struct {
	Index uint64 `json:"index" doc:"of the last entry of the metadata log in it"`
}

type (
	controllerID struct {
		ID uint64 `path:"id" minimum:"1"`
	}
	// AddedController is the body of an addition.
	AddedController struct {
		ID uint64 `json:"id" minimum:"1"`
	}
	addInput         struct{ Body AddedController }
	controllerOutput struct{ Body ControllerGroup }
	snapshotOutput   struct{ Body Snapshot }
)

type controllersAPI struct {
	controllers Controllers
	snapshot    func(context.Context) (uint64, error) // nil: no controller is in this process
}

func registerControllers(h *routes, a controllersAPI) {
	route(h, http.MethodGet, "/api/v1/controllers", onCluster[struct{}](describesCluster), a.list)
	route(h, http.MethodPost, "/api/v1/controllers", onCluster[addInput](altersCluster).act("controller.add").about(func(in *addInput) string { return strconv.FormatUint(in.Body.ID, 10) }), a.add)
	route(h, http.MethodDelete, "/api/v1/controllers/{id}", onCluster[controllerID](altersCluster).act("controller.remove").about(func(in *controllerID) string { return strconv.FormatUint(in.ID, 10) }), a.remove)
	if a.snapshot != nil {
		route(h, http.MethodPost, "/api/v1/snapshots", onCluster[struct{}](altersCluster).act("controller.snapshot"), a.takeSnapshot)
	}
}

func (a controllersAPI) list(ctx context.Context, _ *struct{}) (*controllerOutput, error) {
	ctx, cancel := context.WithTimeout(ctx, membersWait)
	defer cancel()
	g, err := a.controllers.Members(ctx)
	if err != nil {
		return nil, problem(err)
	}
	out := &controllerOutput{ControllerGroup{Leader: g.Leader, Term: g.Term, Committed: g.Committed, Snapshot: g.Snapshot, Controllers: []Controller{}}}
	for _, m := range g.Members {
		lag := uint64(0)
		if m.Role != controller.Waiting {
			lag = max(g.Committed, m.Match) - m.Match
		}
		out.Body.Controllers = append(out.Body.Controllers, Controller{
			ID: m.ID, Role: string(m.Role), Leads: m.Leads, Active: m.Active, Match: m.Match, Lag: lag, Raft: m.Raft, Controller: m.Controller,
			Directory: hex.EncodeToString(m.Directory[:]),
		})
	}
	return out, nil
}

func (a controllersAPI) add(ctx context.Context, in *addInput) (*controllerOutput, error) {
	ctx, cancel := context.WithTimeout(ctx, addWait)
	defer cancel()
	if err := a.controllers.AddController(ctx, in.Body.ID); err != nil {
		return nil, problem(err)
	}
	return a.list(ctx, nil)
}

func (a controllersAPI) remove(ctx context.Context, in *controllerID) (*struct{}, error) {
	ctx, cancel := context.WithTimeout(ctx, addWait)
	defer cancel()
	if err := a.controllers.RemoveController(ctx, in.ID); err != nil {
		return nil, problem(err)
	}
	return nil, nil
}

func (a controllersAPI) takeSnapshot(ctx context.Context, _ *struct{}) (*snapshotOutput, error) {
	index, err := a.snapshot(ctx)
	if err != nil {
		return nil, problem(err)
	}
	return &snapshotOutput{Snapshot{index}}, nil
}

// controllersCommand is `rustmq admin controllers …`.
func (e *env) controllersCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "controllers", Short: "List, add and remove controllers, and have one take a snapshot", Args: cobra.NoArgs}
	cmd.AddCommand(e.listControllers(), e.addController(), e.removeController(), e.snapshotController())
	return cmd
}

func (e *env) listControllers() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the controllers, and how far each has the metadata log", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var out ControllerGroup
			if err := e.client(cmd).call(cmd.Context(), http.MethodGet, "/api/v1/controllers", nil, &out); err != nil {
				return err
			}
			return e.print(out, func() { e.showControllers(out) })
		},
	}
}

func (e *env) showControllers(g ControllerGroup) {
	fmt.Fprintf(e.stdout, "term %d, committed %d, snapshot %d\n\n", g.Term, g.Committed, g.Snapshot)
	t := e.table("CONTROLLER", "ROLE", "LEADS", "ACTIVE", "LAG", "RAFT", "BROKERS ASK", "DIRECTORY")
	for _, c := range g.Controllers {
		t.AppendRow(table.Row{c.ID, c.Role, yesNo(c.Leads), yesNo(c.Active), c.Lag, orDash(c.Raft), orDash(c.Controller), c.Directory})
	}
	t.Render()
}

func (e *env) addController() *cobra.Command {
	return &cobra.Command{
		Use: "add ID", Short: "Give a controller that waits the metadata log, and a vote once it has caught up", Args: cobra.ExactArgs(1),
		Long: `Gives a controller that waits the metadata log and, once it has caught up, a vote.

It waits after it was started with the role controller and the controllers of the
cluster as its --peers, itself among them or not; ` + "`rustmq admin controllers list`" + ` shows it.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := controllerNumber(args[0])
			if err != nil {
				return err
			}
			var out ControllerGroup
			if err := e.client(cmd).call(cmd.Context(), http.MethodPost, "/api/v1/controllers", AddedController{id}, &out); err != nil {
				return err
			}
			return e.print(out, func() {
				fmt.Fprintf(e.stdout, "controller %d has a vote; name it in --peers of every node from its next start on\n", id)
			})
		},
	}
}

func (e *env) removeController() *cobra.Command {
	var dry bool
	cmd := &cobra.Command{
		Use: "remove ID", Short: "Take a controller out of the group; it can be stopped then", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := controllerNumber(args[0])
			if err != nil {
				return err
			}
			if dry {
				return e.wouldRemove(cmd, id)
			}
			if err := e.client(cmd).call(cmd.Context(), http.MethodDelete, "/api/v1/controllers/"+strconv.FormatUint(id, 10), nil, nil); err != nil {
				return err
			}
			return e.print(struct {
				Removed uint64 `json:"removed"`
			}{id}, func() {
				fmt.Fprintf(e.stdout, "controller %d is no member any more; take it out of --peers of every node before its next start\n", id)
			})
		},
	}
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only say which controllers would be left")
	return cmd
}

// wouldRemove shows the group, and says how many of it would be left.
func (e *env) wouldRemove(cmd *cobra.Command, id uint64) error {
	var g ControllerGroup
	if err := e.client(cmd).call(cmd.Context(), http.MethodGet, "/api/v1/controllers", nil, &g); err != nil {
		return err
	}
	votes, active, is := 0, 0, false
	for _, c := range g.Controllers {
		switch {
		case c.ID == id:
			is = true
		case c.Role == "voter":
			votes++
			if c.Active {
				active++
			}
		}
	}
	if !is {
		return fmt.Errorf("controller %d is no member: `rustmq admin controllers list` shows those there are", id)
	}
	return e.print(g, func() {
		e.showControllers(g)
		fmt.Fprintf(e.stdout, "\ncontroller %d would be taken out, and %s be left, %d of them active; nothing was done\n", id, plural(votes, "vote"), active)
	})
}

func (e *env) snapshotController() *cobra.Command {
	return &cobra.Command{
		Use: "snapshot", Short: "Have the controller at --url, or the one that leads if none is there, take a snapshot of the metadata", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var out Snapshot
			if err := e.client(cmd).call(cmd.Context(), http.MethodPost, "/api/v1/snapshots", nil, &out); err != nil {
				return err
			}
			return e.print(out, func() { fmt.Fprintf(e.stdout, "there is a snapshot up to entry %d\n", out.Index) })
		},
	}
}

func controllerNumber(text string) (uint64, error) {
	id, err := strconv.ParseUint(text, 10, 31)
	if err != nil || id < 1 {
		return 0, &UsageError{fmt.Sprintf("%q is no id of a controller: want a number of 1 or more, as `rustmq admin controllers list` shows", text)}
	}
	return id, nil
}
