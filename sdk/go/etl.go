package rustmq

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
)

// Module is a transform (ETL) of a cluster, as the admin API describes it.
type Module struct {
	Name     string          `json:"name"`
	Active   uint32          `json:"active"` // version that runs; 0: none
	State    string          `json:"state"`  // active, disabled, or budget-spent: it failed too often
	Reason   string          `json:"reason"`
	Mode     string          `json:"mode"` // inline or async
	Topics   []string        `json:"topics"`
	Versions []ModuleVersion `json:"versions"`
}

// ModuleVersion is a version of a module.
type ModuleVersion struct {
	Number uint32          `json:"number"`
	SHA256 string          `json:"sha256"`
	Bytes  int64           `json:"bytes"`
	Spec   json.RawMessage `json:"spec"` // not told by Modules
}

// Deployment is a version of a module to be.
type Deployment struct {
	Wasm     []byte // the module; or
	Battery  string // the name of one that comes with rustmq
	Spec     any    // is sent as JSON; docs/etl.md has its fields
	Disabled bool   // another version, or none, stays active
	DryRun   bool   // nothing is changed
}

// DeployModule deploys a version of a module, and returns its number. Unless it is Disabled
// it is active at once.
func (a *Admin) DeployModule(ctx context.Context, name string, d Deployment) (uint32, error) {
	if (d.Wasm == nil) == (d.Battery == "") {
		return 0, errors.New("rustmq: deploy a module: give Wasm or Battery")
	}
	body := map[string]any{"spec": d.Spec, "disabled": d.Disabled, "dry_run": d.DryRun}
	if d.Battery != "" {
		body["battery"] = d.Battery
	} else {
		var uploaded struct {
			SHA256 string `json:"sha256"`
		}
		if err := a.send(ctx, http.MethodPost, "/etl/uploads", "application/wasm", d.Wasm, &uploaded); err != nil {
			return 0, err
		}
		body["sha256"] = uploaded.SHA256
	}
	var out struct {
		Version uint32 `json:"version"`
	}
	err := a.Call(ctx, http.MethodPost, modulePath(name)+"/versions", body, &out)
	return out.Version, err
}

// Modules lists modules.
func (a *Admin) Modules(ctx context.Context) ([]Module, error) {
	var out struct {
		Modules []Module `json:"modules"`
	}
	err := a.Call(ctx, http.MethodGet, "/etl/modules", nil, &out)
	return out.Modules, err
}

// Module describes a module.
func (a *Admin) Module(ctx context.Context, name string) (m Module, err error) {
	err = a.Call(ctx, http.MethodGet, modulePath(name), nil, &m)
	return m, err
}

// EnableModule makes a version active; 0: the one that was last, or else the newest.
func (a *Admin) EnableModule(ctx context.Context, name string, version uint32) error {
	body := map[string]any{}
	if version != 0 {
		body["version"] = version
	}
	return a.Call(ctx, http.MethodPost, modulePath(name)+"/enable", body, nil)
}

// DisableModule has none of a module's versions be active.
func (a *Admin) DisableModule(ctx context.Context, name, reason string) error {
	return a.Call(ctx, http.MethodPost, modulePath(name)+"/disable", map[string]any{"reason": reason}, nil)
}

// RollbackModule makes the version active that was before.
func (a *Admin) RollbackModule(ctx context.Context, name, reason string) error {
	return a.Call(ctx, http.MethodPost, modulePath(name)+"/rollback", map[string]any{"reason": reason}, nil)
}

// DeleteModule deletes a module with all versions; force: though one is active.
func (a *Admin) DeleteModule(ctx context.Context, name string, force bool) error {
	return a.Call(ctx, http.MethodDelete, modulePath(name)+"?force="+strconv.FormatBool(force), nil, nil)
}

func modulePath(name string) string { return "/etl/modules/" + url.PathEscape(name) }
