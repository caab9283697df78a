-- Written by `cdnblock export haproxy`: whose request it is, and the notice of measure `proxy`; for covered hosts only.
-- The notices are in a map, so that they change without a reload. What is in it is percent-encoded, and in a text |2|
-- stands for the last two labels of the host.

local notices = Map.new("@NOTICES@", Map._str)
local trusted = {"@TRUSTED@"}

for place, network in ipairs(trusted) do trusted[place] = core.parse_addr(network) end

local MOST_HOPS = 256
local NOWHERE = "255.255.255.255" -- an address that is in no country

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

local function answer(applet)
  local host = applet:get_var("txn.cdnblock_host") or ""
  local key, default = (applet:get_var("txn.cdnblock_action") or ""):match("^terminate:(.-):(.*)$")
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
  if node:match("^[%x:]+[%x:.]*$") and node:find(":", 1, true) and core.parse_addr(node) then return node end
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
local function find_client(txn)
  local lines, client, hops = txn.http:req_get_headers()["x-forwarded-for"], nil, 0
  if not lines then return end
  for place = #lines, 0, -1 do
    local nodes = split(lines[place], ",")
    for position = #nodes, 1, -1 do
      local node = nodes[position]:match("^[ \t]*(.-)[ \t]*$")
      if node ~= "" then
        hops, client = hops + 1, node_address(node)
        if not client or hops > MOST_HOPS then
          txn:set_var("txn.cdnblock_client", NOWHERE)
          return
        end
        txn:set_var("txn.cdnblock_client", client)
        if not is_trusted(client) then return end
      end
    end
  end
end

core.register_service("cdnblock-notice", "http", answer)
core.register_action("cdnblock-client", {"http-req"}, find_client, 0)
