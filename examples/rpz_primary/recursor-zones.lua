-- In this order: what passes, what has changed, the bulk. An extended error is said of all that a policy does, letting
-- pass included, so pass has none.
local secret = io.open("rpz.key"):read("a"):match('secret "(.-)"')

local function from(zone, options)
  options.policyName = zone
  options.tsigname, options.tsigalgo, options.tsigsecret = "rpz", "hmac-sha256", secret
  options.refresh = 1
  rpzPrimary("127.0.0.1:5300", zone .. ".", options)
end

from("pass-fr", {})
from("delta-fr", { extendedErrorCode = 16, extendedErrorExtra = "court order" })
from("base-fr", { extendedErrorCode = 16, extendedErrorExtra = "court order" })
