package admin

import (
	"net/http"
	"testing"
)

// A query that names what there is not is refused: nothing is done with the rest of it.
func TestQueriesSayWhatIsMeant(t *testing.T) {
	a := newAsking(t)
	as := []string{"Authorization", "Bearer " + a.local}
	a.want("deploy", http.StatusCreated, a.do(http.MethodPost, modulesPath+"/m/versions", `{"battery":"upper","spec":{"mode":"inline","topics":["one"]}}`, as...))
	for path, says := range map[string]string{
		modulesPath + "/m?vresion=1&force=true": `there is no parameter \"vresion\": this call has force, version`, modulesPath + "/m?force=true&force=false": "force is there 2 times",
		modulesPath + "/m?force=true&version=":    "version has no value",
		modulesPath + "/m?force=true&version=%zz": "the query cannot be read", modulesPath + "/m?force=true&version=1;x": "the query cannot be read",
		"/api/v1/topics/orders?dry_run=true": `there is no parameter \"dry_run\": this call has none`,
	} {
		a.want(path, http.StatusBadRequest, a.do(http.MethodDelete, path, "", as...), says)
	}
	a.want("the module is there", http.StatusOK, a.do(http.MethodGet, modulesPath+"/m", "", as...))
	a.want("the topic is there", http.StatusOK, a.do(http.MethodGet, "/api/v1/topics/orders", "", as...))
	a.want("a list may be there more than once", http.StatusOK, a.do(http.MethodGet, auditPath+"/verify?head=a&head=b", "", as...))
	a.want("what it has", http.StatusNoContent, a.do(http.MethodDelete, modulesPath+"/m?force=true", "", as...))
}
