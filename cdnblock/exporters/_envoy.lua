-- What `cdnblock export envoy` puts below its tables: which host, whose request, and the notice of measure `proxy`.
-- Only what concerns the host is done for every request; a host that nobody names costs a checksum and three looks.

local byte, find, format, sub = string.byte, string.find, string.format, string.sub
local band, bnot, bxor, rshift = bit.band, bit.bnot, bit.bxor, bit.rshift

local DOT, SPACE, EQUALS, COLON, BRACKET = 46, 32, 61, 58, 91
local MOST_HOPS, MOST_OF_AN_ADDRESS, MOST_OF_A_NODE = 256, 100, 256
local NOWHERE = "unknown"

-- Every octet of a host in lower case; 0 for what is none of a name's
local lower = {}
for octet = 0, 255 do
  local character = string.char(octet)
  lower[octet] = character:find("^[%w._-]$") and character:lower():byte() or 0
end

local crc_of = {}
for octet = 0, 255 do
  local crc = octet
  for _ = 1, 8 do crc = band(crc, 1) == 1 and bxor(rshift(crc, 1), 0xEDB88320) or rshift(crc, 1) end
  crc_of[octet] = crc
end

-- Where a bucket begins in `names`: five digits of base 64
local function offset(bucket)
  local a, b, c, d, e = byte(buckets, bucket * 5 + 1, bucket * 5 + 5)
  return ((((a - 48) * 64 + b - 48) * 64 + c - 48) * 64 + d - 48) * 64 + e - 48 + 1
end

-- The group of the name that begins at `first`: `name=group` is for the name itself, `name group` for all below it too
local function listed(host, first, last, bucket)
  local place, stop, found = offset(bucket), offset(bucket + 1), nil
  while place < stop do
    local at = first
    while at <= last and byte(names, place) == lower[byte(host, at)] do place, at = place + 1, at + 1 end
    local mark, ending = byte(names, place), find(names, "\n", place, true)
    if at > last and (mark == SPACE or (mark == EQUALS and first == 1)) then
      found = sub(names, place + 1, ending - 1)
      if mark == EQUALS then return found end
    end
    place = ending + 1
  end
  return found
end

-- The group of the longest name that a host is, or is below; and whether it is a host at all
local function group_of(host, last)
  local crc, found = -1, nil
  for first = last, 1, -1 do
    local octet = lower[byte(host, first)]
    if octet == 0 then return nil, false end
    crc = bxor(rshift(crc, 8), crc_of[band(bxor(crc, octet), 255)])
    if first == 1 or byte(host, first - 1) == DOT then
      found = listed(host, first, last, band(bnot(crc), mask)) or found
    end
  end
  return found, last > 0
end

-- Where the name in a Host field ends: before a port, and before final dots
local function end_of_name(host)
  local last = #host
  local digits = last
  while digits > 0 and byte(host, digits) >= 48 and byte(host, digits) <= 57 do digits = digits - 1 end
  if byte(host, digits) == COLON then last = digits - 1 end
  while byte(host, last) == DOT do last = last - 1 end
  return last
end

-- Addresses are their hexadecimal digits, 8 or 32; nil is for what is no address

local function ipv4(text)
  local found = ""
  local octets = {text:match("^(%d+)%.(%d+)%.(%d+)%.(%d+)$")}
  if #octets ~= 4 then return nil end
  for _, octet in ipairs(octets) do
    if #octet > 3 or tonumber(octet) > 255 or (octet:sub(1, 1) == "0" and octet ~= "0") then return nil end
    found = found .. format("%02x", tonumber(octet))
  end
  return found
end

local function hextets(text)
  local found = {}
  if text == "" then return found end
  for group in (text .. ":"):gmatch("(.-):") do
    if #group < 1 or #group > 4 then return nil end
    found[#found + 1] = ("0"):rep(4 - #group) .. group:lower()
  end
  return found
end

local function ipv6(text)
  local bare, zone = text:match("^(.-)%%(.*)$")
  if zone == "" then return nil end
  text = bare or text
  local before, dotted = text:match("^(.*:)([^:]*%.[^:]*)$")
  if before then
    local low = ipv4(dotted)
    if not low then return nil end
    text = before .. low:sub(1, 4) .. ":" .. low:sub(5)
  end
  if not text:match("^[%x:][%x:]+$") then return nil end
  local head, tail = text:match("^(.-)::(.*)$")
  local left, right = hextets(head or text), hextets(tail or "")
  if not left or not right then return nil end
  local missing = 8 - #left - #right
  if (head and missing < 1) or (not head and missing ~= 0) then return nil end
  return table.concat(left) .. ("0000"):rep(missing) .. table.concat(right)
end

local function address_of(text)
  if #text > MOST_OF_AN_ADDRESS then return nil end
  local address = text:find(":", 1, true) and ipv6(text) or ipv4(text)
  if address and address:sub(1, 24) == "00000000000000000000ffff" then return address:sub(25) end -- IPv4-mapped
  return address
end

-- One hop of X-Forwarded-For: an address, perhaps in brackets, perhaps with a port
local function node_address(node)
  if #node > MOST_OF_A_NODE then return nil end
  local inside, port = node:match("^%[(.-)%](.*)$")
  if inside then
    if not inside:find(":", 1, true) or not (port == "" or port:match("^:%d%d?%d?%d?%d?$") or port:match("^:_[%w._-]+$")) then
      return nil
    end
    return address_of(inside)
  end
  local dotted = node:match("^([^:]*%.[^:]*):%d%d?%d?%d?%d?$") or node:match("^([^:]*%.[^:]*):_[%w._-]+$")
  return address_of(dotted or node)
end

-- The client's own address, out of its tunnel: 6to4, NAT64, Teredo
local function unwrapped(address)
  if #address == 8 then return address end
  if address:sub(1, 4) == "2002" then return address:sub(5, 12) end
  if address:sub(1, 24) == "0064ff9b0000000000000000" then return address:sub(25) end
  if address:sub(1, 8) == "20010000" then return format("%08x", 0xFFFFFFFF - tonumber(address:sub(25), 16)) end
  return address
end

-- Each span is a first and a last address of as many digits as `width`, two characters that say what, and a line end
local function within(spans, width, address)
  local size = 2 * width + 3
  local low, high = 0, #spans / size
  while low < high do
    local middle = math.floor((low + high) / 2)
    if sub(spans, middle * size + 1, middle * size + width) <= address then low = middle + 1 else high = middle end
  end
  local at = (low - 1) * size
  if low == 0 or address > sub(spans, at + width + 1, at + 2 * width) then return nil end
  return sub(spans, at + 2 * width + 1, at + 2 * width + 2)
end

local function is_trusted(address)
  if #address == 8 then return within(trusted_ipv4, 8, address) ~= nil end
  return within(trusted_ipv6, 32, address) ~= nil
end

-- From the right: the first address that no trusted proxy has. What one of them wrote and cannot be read hides the client.
local function client_of(peer, chain)
  local client, hops = node_address(peer), 0
  if not client or not is_trusted(client) or not chain then return client end
  local ending = #chain
  for place = #chain, 0, -1 do
    if place == 0 or byte(chain, place) == 44 then
      local node = chain:sub(place + 1, ending):match("^[ \t]*(.-)[ \t]*$")
      ending = place - 1
      if node ~= "" then
        hops, client = hops + 1, node_address(node)
        if not client or hops > MOST_HOPS then return nil end
        if not is_trusted(client) then return client end
      end
    end
  end
  return client
end

local function place_of(client)
  if not client then return NOWHERE end
  local address, place = unwrapped(client), nil
  if #address == 8 then
    place = within(ipv4_spans, 8, address)
  else
    local network = address:sub(1, 16)
    if network == "0000000000000000" or network == "0064ff9b00000000" then return NOWHERE end
    place = within(ipv6_spans, 16, network)
  end
  if place == "--" then return NOWHERE end
  return place or "other"
end

-- @WISHES@

local function notice(outcome, host, place, headers)
  local language = chosen_language(headers:get("accept-language"), languages, own_languages[place] or own_languages.other)
  local kind = chosen_type(headers:get("accept"), types, function(name) return meant_by[name] end)
  local body = {}
  for at, part in ipairs(notices[outcome][language][kind]) do
    body[at] = type(part) == "number" and last_labels(host, part) or part
  end
  local lines = {[":status"] = "451", ["content-type"] = content_types[kind], ["content-language"] = language}
  for name, value in pairs(notice_headers) do lines[name] = value end
  return {headers = lines, body = table.concat(body)}
end

-- An answer, "uncached", or nil for a request that passes
local function decision(handle)
  local headers = handle:headers()
  local host = headers:get(":authority") or ""
  if byte(host, 1) == BRACKET then
    return not (host:find("^%[[%x:.]+%]$") or host:find("^%[[%x:.]+%]:%d*$")) and bad_host or nil
  end
  local last = end_of_name(host)
  local group, named = group_of(host, last)
  if not named then return bad_host end
  if group == nil or group == "-" then return nil end
  local info = handle:streamInfo()
  local place = place_of(client_of(peer_of(info), believed and headers:get("x-forwarded-for")))
  local outcome = actions[group][place]
  if outcome == nil or outcome == "uncached" then return outcome end
  return notice(outcome, host:sub(1, last):lower(), place, headers)
end

function envoy_on_request(handle)
  local decided, verdict = pcall(decision, handle)
  if not decided then -- never let through what could not be decided
    handle:logErr("cdnblock: " .. tostring(verdict))
    verdict = failure
  end
  if verdict == nil then return end
  if verdict == "uncached" then
    handle:streamInfo():dynamicMetadata():set("cdnblock", "uncached", true)
  else
    handle:respond(verdict.headers, verdict.body)
  end
end

local function uncached(handle)
  if not handle:streamInfo():dynamicMetadata():get("cdnblock") then return end
  local headers = handle:headers()
  for _, name in ipairs(removed_from_responses) do headers:remove(name) end
  for name, value in pairs(no_store) do headers:add(name, value) end
end

if has_uncached then envoy_on_response = uncached end
