package upstream

import (
	"encoding/binary"
	"errors"
	"io"
	"strconv"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// errLate is why a check was given up.
var errLate = errors.New("no answer in time")

// ask sends one request of our own to ep, and says what is wrong there; "" if nothing. It is for tasks.
func (u *Upstream) ask(s task.Shard, ep *proxy.Endpoint, to proxy.Service, c *Check) string {
	limit := c.Timeout
	if limit == 0 {
		limit = checkTimeout
	}
	cancel := new(proxy.Cancel)
	req := &proxy.Request{Scheme: "http", Authority: to.String(), Version: proxy.HTTP11, Shard: s, Cancel: cancel, Deadline: s.Now().Add(limit),
		Service: to, Endpoint: ep, Fields: proxy.Fields{{Name: "user-agent", Value: "pillion-check"}}}
	c.fill(req)
	if ep.Mesh && u.pool(req).Silent(ep) {
		return errSilent.Detail
	}
	timer := s.After(limit, func() { cancel.Cancel(errLate) })
	defer timer.Stop()
	var resp proxy.Response
	if err := u.send(req, &resp); err != nil {
		var e *proxy.Error
		if errors.As(err, &e) && e.Code == proxy.Overloaded {
			return "" // our own bound on connections: nothing was asked
		}
		return err.Error()
	}
	defer resp.Close()
	return c.judge(&resp)
}

// fill makes req the question.
func (c *Check) fill(req *proxy.Request) {
	switch c.Kind {
	case CheckHTTP:
		req.Method, req.Path = "GET", c.Path
		if req.Path == "" {
			req.Path = "/"
		}
	case CheckGRPC:
		req.Method, req.Path, req.Version = "POST", "/grpc.health.v1.Health/Check", proxy.HTTP2
		req.Fields = append(req.Fields, proxy.Field{Name: "content-type", Value: "application/grpc"}, proxy.Field{Name: "te", Value: "trailers"})
		question := question(c.Name)
		req.Body, req.Length = &proxy.Content{Left: question}, int64(len(question))
	default:
		req.Method, req.Scheme = "CONNECT", ""
		req.Fields = nil
	}
}

// judge says what is wrong with the answer.
func (c *Check) judge(resp *proxy.Response) string {
	code := resp.Fields.Get(errorField)
	if proxy.Code(code) == proxy.Overloaded {
		return "" // it has as much to do as it may: if it got nothing for that, others would get its load
	}
	if resp.Status >= 500 && code != "" {
		return "status " + strconv.Itoa(resp.Status) + ", " + code
	}
	switch c.Kind {
	case CheckHTTP:
		if resp.Status >= 400 {
			return "status " + strconv.Itoa(resp.Status)
		}
		return ""
	case CheckGRPC:
		return judgeGRPC(resp)
	default:
		return "" // whatever it answers, it is there
	}
}

// maxAnswer bounds what is read of an answer.
const maxAnswer = 4096 // bytes

func judgeGRPC(resp *proxy.Response) string {
	if resp.Status != 200 {
		return "status " + strconv.Itoa(resp.Status)
	}
	if resp.Body == nil {
		return "gRPC status " + resp.Fields.Get("grpc-status")
	}
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return err.Error()
	}
	if s := resp.Body.Trailers().Get("grpc-status"); s != "0" {
		return "gRPC status " + s
	}
	return serving(answer)
}

// serving reads a HealthCheckResponse, whose only field, 1, is an enumeration of which 1 is SERVING.
// https://github.com/grpc/grpc/blob/master/doc/health-checking.md
func serving(answer []byte) string {
	const prefix = 5 // bytes: whether it is compressed, and how long it is
	if len(answer) >= prefix+2 && answer[0] == 0 && answer[prefix] == 0x08 && answer[prefix+1] == 1 {
		return ""
	}
	return "it does not say that it is serving"
}

// question is a HealthCheckRequest, whose only field, 1, is the name of a service, with its prefix.
func question(name string) []byte {
	var message []byte
	if name != "" {
		message = append(binary.AppendUvarint([]byte{0x0a}, uint64(len(name))), name...)
	}
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)
}
