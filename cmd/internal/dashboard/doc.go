// Package dashboard is the page that the admin address shows to browsers: what the sidecar does, live. The page is one document with a style sheet and
// scripts, embedded; it fetches nothing from elsewhere, and its Content-Security-Policy lets it fetch nothing but what the same address serves.
//
// The files are served to anybody who passes the guard of package admin, without the token, because they hold no secret: the page asks for the token, and
// sends it with each request for data. /events is a stream of server-sent events: a Frame at once, and one each second. Frames are made once for all
// watchers, and only while there is one.
package dashboard
