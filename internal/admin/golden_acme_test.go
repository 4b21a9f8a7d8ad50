package admin_test

import (
	"testing"

	"github.com/privyseal/privyseal/internal/admin/admintest"
)

func goldenACME(t *testing.T, g *golden, s *admintest.Server) {
	t.Helper()
	g.call("CreateEABKey", "for accounts", "POST", "/v1/eab/keys", `{"any_name":true,"max_uses":0}`, "kid=team")
	acme := s.ACME(t, g.vars["team"])
	g.vars["account"], g.vars["order"], g.vars["authz"] = acme.Account, acme.Failed, acme.FailedAuthz
	g.vars["wait_order"], g.vars["wait_authz"] = acme.Pending, acme.PendingAuthz
	for _, of := range []struct{ list, get, path, id, none string }{
		{"ListACMEAccounts", "GetACMEAccount", "/v1/acme/accounts", "$account", "status=deactivated"},
		{"ListACMEOrders", "GetACMEOrder", "/v1/acme/orders", "$order", "status=valid"},
		{"ListACMEAuthorizations", "GetACMEAuthorization", "/v1/acme/authorizations", "$authz", "status=expired"},
	} {
		g.call(of.list, "all", "GET", of.path, "")
		g.call(of.list, "every filter", "GET", of.path+"?account=account:$account&address=::ffff:192.0.2.7"+
			"&eab_key=$team&endpoint=eab&name=WWW.a.test.", "")
		g.call(of.list, "none", "GET", of.path+"?"+of.none, "")
		g.call(of.list, "unknown status", "GET", of.path+"?status=good", "")
		g.call(of.list, "bad limit", "GET", of.path+"?limit=1001", "")
		g.call(of.get, "one", "GET", of.path+"/"+of.id, "")
		g.call(of.get, "unknown", "GET", of.path+"/nobody", "")
	}
	g.call("ListACMEOrders", "first page", "GET", "/v1/acme/orders?limit=1", "", "next=orders")
	g.call("ListACMEOrders", "next page", "GET", "/v1/acme/orders?cursor=$orders&name=*.b.test&status=pending", "")
	g.call("GetACMEAuthorization", "one that waits", "GET", "/v1/acme/authorizations/$wait_authz", "")
	g.call("GetACMEAccount", "as a requester", "GET", "/v1/acme/accounts/account:$account", "")
	end := func(name, id string) {
		g.call("DeactivateACMEAuthorization", name, "POST", "/v1/acme/authorizations/"+id+"/deactivate", "")
	}
	end("revoked", "$wait_authz")
	end("again", "$wait_authz")
	end("one that failed", "$authz")
	end("unknown", "nobody")
	g.call("GetACMEOrder", "whose authorization was revoked", "GET", "/v1/acme/orders/$wait_order", "")
	end = func(name, body string) {
		g.call("DeactivateACMEAccount", name, "POST", "/v1/acme/accounts/$account/deactivate", body)
	}
	end("revoked", `{}`)
	end("again", `{}`)
	end("key blocked", `{"block_key":true}`)
	g.call("DeactivateACMEAccount", "unknown", "POST", "/v1/acme/accounts/nobody/deactivate", `{}`)
	s.ACME(t, "another")
	s.ACME(t, g.vars["team"])
	g.call("DisableEABKey", "with its accounts", "POST", "/v1/eab/keys/$team/disable?accounts=revoke", "")
	g.call("DisableEABKey", "with its accounts again", "POST", "/v1/eab/keys/$team/disable?accounts=revoke", "")
	g.call("DisableEABKey", "with what", "POST", "/v1/eab/keys/$team/disable?accounts=both", "")
}
