package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/spf13/cobra"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/client"
	"rustmq.dev/rustmq/security/acl"
)

// Backup is the metadata of a cluster as of one moment.
type Backup struct {
	ClusterID    string    `json:"cluster_id"`
	Offset       uint64    `json:"offset" doc:"of the last change that is in it"`
	FeatureLevel uint32    `json:"feature_level" doc:"which a version has to know that is to read it"`
	At           time.Time `json:"at"`
	Snapshot     []byte    `json:"snapshot" doc:"as docs/formats.md has it, with the keys of passwords and the hashes of API tokens"`
}

type backupOutput struct{ Body Backup }

// backupAPI gives the metadata out.
type backupAPI struct {
	cluster Cluster
	whole   func() []byte // nil: it is not whole here
}

func registerBackup(h *routes, a backupAPI) {
	backs := onCluster[struct{}](altersCluster).noting("what keeps passwords and API tokens is in it").act("cluster.backup").about(func(*struct{}) string { return acl.ClusterName })
	route(h, http.MethodPost, "/api/v1/cluster/backup", backs, a.backup)
}

func (a backupAPI) backup(context.Context, *struct{}) (*backupOutput, error) {
	if a.whole == nil {
		return nil, huma.NewError(http.StatusServiceUnavailable, "this process has a part of the metadata alone: ask a controller; `rustmq admin controllers list` shows where they are")
	}
	raw := a.whole()
	state := metadata.NewState()
	if err := state.Restore(raw); err != nil { // what could not be read back is no backup
		return nil, huma.NewError(http.StatusInternalServerError, "the snapshot cannot be read back: "+err.Error())
	}
	image := state.Image()
	return &backupOutput{Backup{image.ClusterID(), image.Offset(), image.FeatureLevel(), time.Now().UTC().Truncate(time.Second), raw}}, nil
}

func (e *env) backupCluster() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use: "backup FILE", Short: "Write the metadata to a file, with what the bucket does not have of it", Args: cobra.ExactArgs(1),
		Long: `Writes all metadata, as the controller that is asked has it, to a file that only its owner may
read. The bucket has it too, but for the keys of passwords and the hashes of API tokens, which
are in the file: keep it as you keep those. ` + "`rustmq admin cluster recover --backup FILE`" + ` gives
them back. Records are not in it.`,
		Example: "  rustmq admin cluster backup metadata-$(date +%F).backup",
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := os.Stat(args[0]); err == nil && !force {
				return fmt.Errorf("%s is there already: name another file, or give --force", args[0])
			} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			var out Backup
			if err := e.patient(cmd).call(cmd.Context(), http.MethodPost, "/api/v1/cluster/backup", nil, &out); err != nil {
				return err
			}
			err := client.WriteWhole(args[0], func(w io.Writer) error {
				_, err := w.Write(out.Snapshot)
				return err
			})
			if err != nil {
				return fmt.Errorf("write the backup: %w", err)
			}
			said := struct {
				File      string    `json:"file"`
				ClusterID string    `json:"cluster_id"`
				Offset    uint64    `json:"offset"`
				Level     uint32    `json:"feature_level"`
				At        time.Time `json:"at"`
				Bytes     int       `json:"bytes"`
			}{args[0], out.ClusterID, out.Offset, out.FeatureLevel, out.At, len(out.Snapshot)}
			return e.print(said, func() {
				fmt.Fprintf(e.stdout, "%s: the metadata of cluster %s up to change %s, %s; it has the keys of passwords in it\n", args[0], out.ClusterID, strconv.FormatUint(out.Offset, 10), size(int64(len(out.Snapshot))))
			})
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "replace a file that is there")
	return cmd
}
