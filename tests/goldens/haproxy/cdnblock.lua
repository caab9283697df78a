-- Written by `cdnblock export haproxy`: whose request it is, and the notice of measure `proxy`; for covered hosts only.
-- The notices are in a map, so that they change without a reload. What is in it is percent-encoded, and in a text |2|
-- stands for the last two labels of the host.

local notices = Map.new("/etc/cdnblock/cdnblock-notices.map", Map._str)
local trusted = {"10.0.0.0/8"}

for place, network in ipairs(trusted) do trusted[place] = core.parse_addr(network) end

local MOST_HOPS = 256
local NOWHERE = "255.255.255.255" -- an address that is in no country

local function decoded(text)
  return (text:gsub("%%(%x%x)", function(digits) return string.char(tonumber(digits, 16)) end))
end

local function told(key)
  return notices:lookup(key)
end

-- What a client reads, by what it says; and names cut into labels. Part of the programs for HAProxy and for Envoy.

local MOST_OF_A_FIELD, MOST_RANGES = 2000, 64

local function split(text, separator)
  local found = {}
  for part in (text .. separator):gmatch("(.-)%" .. separator) do found[#found + 1] = part end
  return found
end

-- RFC 9110 §12.4.2; nil for a weight that is none
local function quality(parameters)
  for _, parameter in ipairs(parameters) do
    local value = parameter:match("^[ \t]*[qQ][ \t]*=[ \t]*(.-)[ \t]*$")
    if value then
      local one, zero = value:match("^1$") or value:match("^1%.0?0?0?$"), value:match("^0$") or value:match("^0%.%d?%d?%d?$")
      return (one or zero) and tonumber(value) or nil
    end
  end
  return 1.0
end

local function ranges(text)
  local found = {}
  for place, item in ipairs(split((text or ""):sub(1, MOST_OF_A_FIELD), ",")) do
    if place > MOST_RANGES then break end
    local parameters = split(item, ";")
    local name = table.remove(parameters, 1):match("^[ \t]*(.-)[ \t]*$"):lower()
    local weight = quality(parameters)
    if name ~= "" and weight then found[#found + 1] = {name = name, quality = weight} end
  end
  return found
end

local function contains(list, wanted)
  for _, item in ipairs(list) do if item == wanted then return true end end
  return false
end

-- Lookup, RFC 4647 §3.4: `fr-CA` asks for `fr`
local function chosen_language(text, spoken, default)
  local best, best_quality, refused = nil, 0, {}
  for _, range in ipairs(ranges(text)) do
    local language = range.name:match("^[^-]*")
    if range.quality == 0 then refused[range.name] = true end
    if range.quality > best_quality and contains(spoken, language) then best, best_quality = language, range.quality end
  end
  if best then return best end
  if not refused[default] then return default end
  for _, language in ipairs(spoken) do if not refused[language] then return language end end
  return default
end

-- RFC 9110 §12.5.1: by quality, then exactness, then what is named first, then ours by their order
local function chosen_type(text, offers, meant_by)
  local asked, best, best_rating = ranges(text), offers[1], nil
  for _, range in ipairs(asked) do range.name = meant_by(range.name) or range.name end
  for _, offer in ipairs(offers) do
    local rating
    for exactness, pattern in ipairs({"*/*", offer:match("^[^/]*") .. "/*", offer}) do
      for place, range in ipairs(asked) do
        if range.name == pattern then rating = {range.quality, exactness, -place} break end
      end
    end
    if rating and rating[1] > 0 then
      local better = not best_rating
      for part = 1, 3 do
        if better or rating[part] < best_rating[part] then break end
        better = rating[part] > best_rating[part]
      end
      if better then best, best_rating = offer, rating end
    end
  end
  return best
end

local function last_labels(host, count)
  local labels = split(host, ".")
  return table.concat(labels, ".", math.max(1, #labels - count + 1))
end

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
