package admin

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/security/sasl"
)

// User is somebody who has a password.
type User struct {
	Name       string           `json:"name"`
	Mechanisms []UserCredential `json:"mechanisms"`
}

// UserCredential says that a password is kept for a mechanism, and nothing of it.
type UserCredential struct {
	Mechanism  string `json:"mechanism" doc:"SCRAM-SHA-256 or SCRAM-SHA-512; with either also PLAIN, where it is served"`
	Iterations int32  `json:"iterations"`
	Lost       bool   `json:"lost,omitempty" doc:"the cluster was brought back from its bucket, where passwords are not kept: set it anew"`
}

// NewUser is the body of a creation.
type NewUser struct {
	Name string `json:"name" minLength:"1" maxLength:"256"`
	NewPassword
}

// NewPassword is the body of a change of password.
type NewPassword struct {
	Password   string   `json:"password" minLength:"1" maxLength:"1024" doc:"kept only as the keys of SCRAM"`
	Mechanisms []string `json:"mechanisms,omitempty" maxItems:"2" doc:"that it is for; left out: SCRAM-SHA-256 and SCRAM-SHA-512"`
}

type (
	usersOutput struct {
		Body struct {
			Users []User `json:"users"`
			NextPage
		}
	}
	userOutput      struct{ Body User }
	createUserInput struct{ Body NewUser }
	userName        struct {
		Name string `path:"name" maxLength:"256"`
	}
	passwordInput struct {
		Name string `path:"name" maxLength:"256"`
		Body NewPassword
	}
)

// usersPath begins the paths of what is about users.
const usersPath = "/api/v1/users"

func registerUsers(h *routes, a api) {
	route(h, http.MethodGet, usersPath, onCluster[PageQuery](describesCluster).tagged(imageOf(a.cluster), usersOfAll), a.listUsers)
	route(h, http.MethodPost, usersPath, onCluster[createUserInput](altersCluster).act("user.create").about(func(in *createUserInput) string { return in.Body.Name }).saying(func(in *createUserInput) string { return strings.Join(in.Body.Mechanisms, ",") }).tagged(imageOf(a.cluster), usersOfAll), a.createUser, withStatus(http.StatusCreated))
	route(h, http.MethodDelete, usersPath+"/{name}", onCluster[userName](altersCluster).act("user.delete").about(func(in *userName) string { return in.Name }).tagged(imageOf(a.cluster), usersOfAll), a.deleteUser)
	route(h, http.MethodPut, usersPath+"/{name}/password", onCluster[passwordInput](altersCluster).act("user.set-password").about(func(in *passwordInput) string { return in.Name }).saying(func(in *passwordInput) string { return strings.Join(in.Body.Mechanisms, ",") }).tagged(imageOf(a.cluster), usersOfAll), a.setPassword)
}

// withoutSecrets has what is wrong with a request about users be said without what stands
// there, which may be a password.
func withoutSecrets(ctx huma.Context, _ string, answer any) (any, error) {
	refused, is := answer.(*huma.ErrorModel)
	if !is || !strings.HasPrefix(ctx.Operation().Path, usersPath) && ctx.Operation().Path != sessionPath {
		return answer, nil
	}
	for _, e := range refused.Errors {
		e.Value = nil
	}
	return refused, nil
}

func (a api) listUsers(_ context.Context, in *PageQuery) (*usersOutput, error) {
	out, users := &usersOutput{}, []User{}
	for u := range a.cluster.Image().Users() {
		users = append(users, shownUser(u))
	}
	var err error
	out.Body.Users, out.Body.NextPage, err = partOf(*in, users, func(u User) string { return u.Name })
	return out, err
}

func shownUser(u *metadata.User) User {
	shown := User{Name: u.Name}
	for _, c := range u.Credentials {
		shown.Mechanisms = append(shown.Mechanisms, UserCredential{c.Mechanism.String(), c.Iterations, c.Lost()})
	}
	return shown
}

func (a api) createUser(ctx context.Context, in *createUserInput) (*userOutput, error) {
	if err := sasl.CheckName(in.Body.Name); err != nil {
		return nil, huma.NewError(http.StatusBadRequest, err.Error())
	}
	if _, known := a.cluster.Image().User(in.Body.Name); known {
		return nil, huma.NewError(http.StatusConflict, fmt.Sprintf("there is a user %q; set-password gives it another password", in.Body.Name))
	}
	return a.alterUser(ctx, in.Body.Name, in.Body.NewPassword, nil)
}

func (a api) setPassword(ctx context.Context, in *passwordInput) (*userOutput, error) {
	u, known := a.cluster.Image().User(in.Name)
	if !known {
		return nil, unknownUser(in.Name)
	}
	return a.alterUser(ctx, in.Name, in.Body, u)
}

func unknownUser(name string) error {
	return huma.NewError(http.StatusNotFound, fmt.Sprintf("there is no user %q", name))
}

// alterUser gives a user a password, in place of all that it had.
func (a api) alterUser(ctx context.Context, name string, is NewPassword, was *metadata.User) (*userOutput, error) {
	if err := sasl.CheckPassword(is.Password); err != nil {
		return nil, huma.NewError(http.StatusBadRequest, err.Error())
	}
	mechanisms := metadata.ScramMechanisms()
	if len(is.Mechanisms) > 0 {
		mechanisms = nil
		for _, text := range is.Mechanisms {
			mechanism, known := metadata.ParseScramMechanism(text)
			if !known || slices.Contains(mechanisms, mechanism) {
				return nil, huma.NewError(http.StatusBadRequest, fmt.Sprintf("mechanisms %q: want SCRAM-SHA-256, SCRAM-SHA-512, or both", is.Mechanisms))
			}
			mechanisms = append(mechanisms, mechanism)
		}
	}
	change := metadata.UserChange{User: name}
	for _, mechanism := range mechanisms {
		salt := make([]byte, sasl.SaltSize)
		_, _ = rand.Read(salt) // never fails
		c, err := sasl.NewCredential(mechanism.String(), is.Password, salt, sasl.DefaultIterations)
		if err != nil {
			return nil, err
		}
		change.Set = append(change.Set, metadata.ScramCredential{
			Mechanism: mechanism, Iterations: int32(c.Iterations), Salt: c.Salt, StoredKey: c.StoredKey, ServerKey: c.ServerKey,
		})
	}
	if was != nil {
		for _, c := range was.Credentials {
			if !slices.Contains(mechanisms, c.Mechanism) {
				change.Remove = append(change.Remove, c.Mechanism)
			}
		}
	}
	if err := a.cluster.AlterUsers(ctx, []metadata.UserChange{change})[0]; err != nil {
		return nil, problem(err)
	}
	out := User{Name: name}
	for _, c := range change.Set {
		out.Mechanisms = append(out.Mechanisms, UserCredential{Mechanism: c.Mechanism.String(), Iterations: c.Iterations})
	}
	return &userOutput{out}, nil
}

func (a api) deleteUser(ctx context.Context, in *userName) (*struct{}, error) {
	u, known := a.cluster.Image().User(in.Name)
	if !known {
		return nil, unknownUser(in.Name)
	}
	change := metadata.UserChange{User: in.Name}
	for _, c := range u.Credentials {
		change.Remove = append(change.Remove, c.Mechanism)
	}
	if err := a.cluster.AlterUsers(ctx, []metadata.UserChange{change})[0]; err != nil {
		return nil, problem(err)
	}
	return nil, nil
}
