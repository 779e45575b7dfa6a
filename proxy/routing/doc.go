// Package routing applies the routes of a service: the first one whose conditions a request meets decides what becomes of it.
//
// The room is given a Table for each service and knows nothing of where it was written. Which route applies is in Request.Rule; the layers below have
// settings for each.
package routing
