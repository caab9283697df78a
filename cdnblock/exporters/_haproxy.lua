-- Written by `cdnblock export haproxy`: what becomes of the requests that its rules do not let pass by themselves: those
-- for hosts behind the gate, and those whose host is none. What they ask for an answer counts as refused without one.
-- The maps are those of the rules, so that they change without a reload. What is in the notices is percent-encoded, and
-- in a text |2| stands for the last two labels of the host.

local hosts, actions = Map.new("@HOSTS@", Map._str), Map.new("@ACTIONS@", Map._str)
local territory, notices = Map.new("@TERRITORY@", Map._ip), Map.new("@NOTICES@", Map._str)
local trusted = {"@TRUSTED@"}
local removed, no_store = {"@REMOVED@"}, {"@NO_STORE@"}

for place, network in ipairs(trusted) do trusted[place] = core.parse_addr(network) end

local MOST_HOPS = 256
local NOWHERE = "255.255.255.255" -- an address that is in no country
local LONGEST = 253 -- characters of a name (RFC 1035 section 2.3.4)
local FREE, OTHER = "@FREE@", "@OTHER@"
local OWN = { -- refusals that need no order
  ["400"] = "Bad Request", ["405"] = "Method Not Allowed", ["503"] = "Service Unavailable"
}

local function decoded(text)
  return (text:gsub("%%(%x%x)", function(digits) return string.char(tonumber(digits, 16)) end))
end

local function told(key)
  return notices:lookup(key)
end

-- @WISHES@

local function field(applet, name)
  local lines, found = applet.headers[name], {}
  if not lines then return "" end
  for place = 0, #lines do found[#found + 1] = lines[place] end
  return table.concat(found, ",")
end

local function answer_by_notice(applet, key, default)
  local host = applet:get_var("txn.cdnblock_host") or ""
  local language = chosen_language(field(applet, "accept-language"), split(told("languages"), "|"), default)
  local kind = chosen_type(field(applet, "accept"), split(told("types"), "|"), function(name) return told("meant:" .. name) end)
  local text = told(key .. ":" .. language .. ":" .. kind) or ""
  local body = decoded(text:gsub("|(%d+)|", function(count) return last_labels(host, tonumber(count)) end))
  applet:set_status(451, told("reason"))
  applet:add_header("Content-Type", told("content-type:" .. kind))
  applet:add_header("Content-Language", language)
  applet:add_header("Content-Length", tostring(#body))
  for _, line in ipairs(split(told("headers"), "|")) do
    local name, value = line:match("^(.-): (.*)$")
    applet:add_header(decoded(name), decoded(value))
  end
  applet:start_response()
  if applet.method ~= "HEAD" then applet:send(body) end
end

local function answer_alone(applet, status)
  local body = "<html><body><h1>" .. status .. " " .. OWN[status] .. "</h1></body></html>\n"
  applet:set_status(tonumber(status), OWN[status])
  applet:add_header("Content-Type", "text/html")
  applet:add_header("Content-Length", tostring(#body))
  applet:add_header("Cache-Control", "no-store")
  if status == "405" then applet:add_header("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS") end -- RFC 9110 section 15.5.6
  applet:add_header("Connection", "close")
  applet:start_response()
  if applet.method ~= "HEAD" then applet:send(body) end
end

-- 503 where nothing was decided, because of a fault.
local function answer(applet)
  local action = applet:get_var("txn.cdnblock_action") or ""
  local key, default = action:match("^terminate:(.-):(.*)$")
  if key then answer_by_notice(applet, key, default) else answer_alone(applet, OWN[action] and action or "503") end
end

-- One hop of X-Forwarded-For: an address, perhaps in brackets, perhaps with a port; nil for anything else
local function node_address(node)
  local inside, port = node:match("^%[(.-)%](.*)$")
  if inside then
    if not inside:find(":", 1, true) or not (port == "" or port:match("^:%d%d?%d?%d?%d?$")) then return nil end
    node = inside
  elseif node:find(".", 1, true) and node:match("^[^:]*:[^:]*$") then
    local address = node:match("^([^:]*):%d%d?%d?%d?%d?$")
    if not address then return nil end
    node = address
  end
  node = node:match("^([^%%]+)%%.+$") or node
  local dotted = node:match("^::[fF][fF][fF][fF]:(%d+%.%d+%.%d+%.%d+)$") or node
  if dotted:match("^%d+%.%d+%.%d+%.%d+$") then
    for number in dotted:gmatch("%d+") do
      if tonumber(number) > 255 or (number:sub(1, 1) == "0" and number ~= "0") then return nil end
    end
    return dotted
  end
  if node:match("^[%x:][%x:.]*$") and node:find(":", 1, true) and core.parse_addr(node) then return node end
  return nil
end

local function is_trusted(address)
  local parsed = core.parse_addr(address)
  for _, network in ipairs(trusted) do
    if core.match_addr(parsed, network) then return true end
  end
  return false
end

-- From the right: the first address that no trusted proxy has. What one of them wrote and cannot be read hides the client.
local function forwarded(lines, client)
  local hops = 0
  for place = #lines, 0, -1 do
    local nodes = split(lines[place], ",")
    for position = #nodes, 1, -1 do
      local node = trimmed(nodes[position])
      if node ~= "" then
        hops, client = hops + 1, node_address(node)
        if not client or hops > MOST_HOPS then return NOWHERE end
        if not is_trusted(client) then return client end
      end
    end
  end
  return client
end

local function find_client(txn)
  local client = txn.f:src()
  local peer = client and node_address(client)
  if not peer then return NOWHERE end
  if not is_trusted(peer) then return peer end
  local lines = txn.http:req_get_headers()["x-forwarded-for"]
  return lines and forwarded(lines, client) or client
end

-- The value of the host itself, else of its longest suffix: nothing that is longer than a name can be is one.
local function group_of(name)
  local group, from = hosts:lookup("=" .. name), 1
  if #name > LONGEST then from = (name:find(".", #name - LONGEST, true) or #name) + 1 end
  while not group do
    group = hosts:lookup(name:sub(from))
    local dot = name:find(".", from, true)
    if not dot then break end
    from = dot + 1
  end
  return group
end

-- What is to be done, nil for nothing; `place` is asked for where a name covers the host.
local function action_for(name, place)
  local group = group_of(name)
  if not group or group == FREE then return nil end
  return actions:lookup(place() .. ":" .. group)
end

-- A host's canonical name, nil where it is none that a client may send: as the rules have it.
local function plain(host)
  if host:match("^%[[%x:.]+%]:?%d*$") then return host end
  local name = host:gsub(":%d*$", ""):gsub("%.$", "")
  if name == "" or name:find("[^0-9A-Za-z_.-]") or ("." .. name .. "."):find("..", 1, true) then return nil end
  return name:lower()
end

-- HTTP/1.0 needs no Host; where its target names one it does so plainly: what comes after it may read more into it.
-- Returns the host's name, as the rules have left it or as they would, empty without one, and nil where it is none.
local function name_of(txn)
  local host = txn:get_var("txn.cdnblock_host")
  if host then return host end
  host = txn.f:req_fhdr("host")
  if host then return plain(host) end
  local target = txn.f:url() or ""
  if txn.f:req_ver() ~= "1.0" then return nil end
  if target == "*" or target:find("^/") then return "" end
  host = target:match("^%a[%w+.-]*://([^/]*)")
  return host and not host:find("[", 1, true) and plain(host) or nil
end

local function keep(txn, name, value)
  if not txn:set_var(name, value) then error("cdnblock: no memory for " .. name) end
end

-- Returns what is to be done with a request, or raises an error, which nobody takes for leave to serve it.
local function decide(txn)
  local name, action = name_of(txn), nil
  if not name then
    action = "400"
  else
    action = name ~= "" and action_for(name, function()
      return txn:get_var("txn.cdnblock_place") or territory:lookup(find_client(txn)) or OTHER
    end)
    -- What an origin that says 200 to CONNECT makes a tunnel would never be asked about. RFC 9110 §9.3.6: not ours to make.
    if (not action or action == "uncached") and txn.f:method() == "CONNECT" then action = "405" end
  end
  if not action then return "serve" end
  if name then keep(txn, "txn.cdnblock_host", name) end
  keep(txn, "txn.cdnblock_action", action)
  if action == "uncached" then return "serve" end
  return "answer"
end

-- TLS by its server name; addresses are told to HTTP alone.
local function decide_hello(txn)
  local action = action_for(txn:get_var("sess.cdnblock_host"), function()
    return territory:lookup(txn.f:src() or NOWHERE) or OTHER
  end)
  keep(txn, "sess.cdnblock_action", action or "serve")
end

local function uncache(txn)
  if txn:get_var("txn.cdnblock_action") ~= "uncached" then return "close" end
  for _, name in ipairs(removed) do txn.http:res_del_header(name) end
  for _, line in ipairs(no_store) do txn.http:res_add_header(line[1], line[2]) end
  return "done"
end

core.register_service("cdnblock-answer", "http", answer)
core.register_fetches("cdnblock-decided", decide)
core.register_fetches("cdnblock-uncached", uncache)
core.register_action("cdnblock-hello", {"tcp-req"}, decide_hello, 0)
