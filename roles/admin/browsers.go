package admin

import (
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"

	"rustmq.dev/rustmq/storage/guard"
)

// refuseBrowsers turns away what a page of another site can make a browser
// send: requests with an Origin, what the browser itself says is fetched for another site, and names
// that were rebound to an address of this machine (DNS rebinding). Over TLS a name that is rebound is
// none of the certificate. What watches a server that others can reach may call it
// by whatever name it has there: whoever reaches it reads the same. The API is called by pages of this
// server too. No answer is a part of another site's page, or of a frame, whatever it is.
func (d *door) refuseBrowsers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'") // pages have their own
		probes := r.URL.Path == metricsPath || r.URL.Path == healthPath || r.URL.Path == readyPath
		watched := d.o.Reachable && probes
		// Pages call the API, and say an Origin also where they load what they are made of.
		ours := !probes && !strings.HasPrefix(r.URL.Path, debugPath) && d.sameOrigin(r)
		switch {
		case len(r.Header.Values("Origin")) > 0 && !guard.Check("admin.foreign-origin", ours):
			http.Error(w, "requests from pages of other sites are refused: call the server without an Origin header", http.StatusForbidden)
		case !guard.Check("admin.foreign-fetch", !forAnotherSite(r)):
			http.Error(w, "requests for pages of other sites are refused: the browser says of this one that it is (Sec-Fetch-Site)", http.StatusForbidden)
		case !watched && d.o.TLS == nil && !d.o.isOwn(r.Host):
			http.Error(w, fmt.Sprintf("Host %q is neither an address nor a name that this server knows for its own, and may be the page of another site: "+
				"call it by address, or by network.advertised_host", r.Host), http.StatusForbidden)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// forAnotherSite reports whether a browser says that a page of another site, or of another port of
// this host, has it ask: for an image, a script or a frame, for which it sends no Origin. A
// link that somebody follows is none of these. Who is no browser says nothing.
func forAnotherSite(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "same-origin", "none":
		return false
	}
	link := looksOnly(r) && r.Header.Get("Sec-Fetch-Mode") == "navigate" && r.Header.Get("Sec-Fetch-Dest") == "document"
	return !link
}

// sameOrigin reports whether a request comes from a page of this server.
func (d *door) sameOrigin(r *http.Request) bool {
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	all := r.Header.Values("Origin")
	return len(all) == 1 && strings.EqualFold(all[0], scheme+"://"+r.Host) && (r.TLS != nil || d.o.isOwn(r.Host))
}

// isOwn reports whether the Host of a request cannot have been rebound: an address, or
// a name of this server.
func (o Options) isOwn(hostPort string) bool {
	host, _, err := net.SplitHostPort(hostPort)
	if err != nil {
		host = strings.TrimSuffix(strings.TrimPrefix(hostPort, "["), "]")
	}
	if net.ParseIP(host) != nil {
		return true
	}
	host = strings.TrimSuffix(host, ".")
	own := func(name string) bool { return name != "" && strings.EqualFold(host, strings.TrimSuffix(name, ".")) }
	return own("localhost") || slices.ContainsFunc(o.Names, own)
}
