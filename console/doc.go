// Package console is the web console: pages for a browser, built from src/ by build.mjs into
// dist/, which is embedded. It serves files and no more: what the pages show and do, they ask of
// /api/v1 as any client does, with the rights of who is logged in.
//
// Files below /assets/ have names made of what is in them, and are kept by browsers for ever; the
// page itself is asked for again. Any path is the page, which finds by itself what to show
// there. Where nothing was built, as by Go alone, one static page says how to get the console.
//
// Every answer carries a content security policy that lets the page have nothing but this
// server's own: no script or style within HTML, no frame around it, nothing from elsewhere.
//
// It knows no other room. Handler is safe for concurrent use.
package console
