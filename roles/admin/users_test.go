package admin

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// What is wrong with a request that sets a password is said without the password: answers
// end up in logs.
func TestNoAnswerHasAPassword(t *testing.T) {
	mux := http.NewServeMux()
	registerAPI(mux, Options{}, nil, t.Context())
	long := "open-sesame" + strings.Repeat("x", 1024)
	for _, c := range []struct{ method, path, body, says string }{
		{http.MethodPost, "/api/v1/users", `{"name":"alice","password":"open-sesame","mechanism":"PLAIN"}`, "unexpected property"},
		{http.MethodPost, "/api/v1/users", `{"name":"alice","password":"` + long + `"}`, "body.password"},
		{http.MethodPost, "/api/v1/users", `{"password":"open-sesame"}`, "required"},
		{http.MethodPost, "/api/v1/users", `{"name":"alice","password":["open-sesame"]}`, "body.password"},
		{http.MethodPost, "/api/v1/users", `{"name":"alice","password":"open-sesame`, "detail"},
		{http.MethodPut, "/api/v1/users/alice/password", `{"password":"open-sesame","iterations":1}`, "unexpected property"},
	} {
		r := httptest.NewRequest(c.method, c.path, strings.NewReader(c.body))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		said := w.Body.String()
		if w.Code/100 != 4 || !strings.Contains(said, c.says) || strings.Contains(said, "open-sesame") {
			t.Errorf("%.80s: %d, %.500s", c.body, w.Code, said)
		}
	}
}
