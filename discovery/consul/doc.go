// Package consul is the discovery source that follows a service in Consul's catalogue, and what enters this sidecar there.
//
// A service is followed with blocking queries of /v1/health/service: only instances that pass all their checks count. Reads are stale, so that any server
// of the cluster answers, and one without a leader changes nothing. An index that goes backwards (servers that were restored, or one behind the others) is no news
// but a reason to ask the leader. That there are no instances any more is believed
// if the leader says so too. What the token does not let us see, half an answer, or anything that is none changes nothing either; nor does, for half a
// minute after a failure, an answer without any instance.
//
// A server that says nothing cannot be told from one that has nothing to say. So an answer may wait half as long as the last change is ago, from half a second up to
// ten, and is asked for again, beside, when it is late: an answer that was lost is missed within a second while a service changes, and after ten at most.
//
// Of an instance, its own address counts, else its node's; its weight is Consul's, its zone that of its locality. Its metadata may
// say more: pillion-identity, pillion-mesh, pillion-transport, pillion-zone and pillion-weight, as in discovery.Labels. What else it holds, and its tags, are labels.
//
// The interface is https://developer.hashicorp.com/consul/api-docs/health and https://developer.hashicorp.com/consul/api-docs/features/blocking.
package consul
