-- Refuses the names that orders cover, to the clients whom they concern, and touches no other query.
-- Written by `cdnblock export dnsdist`: do not edit. It is run by the configuration, before your own rules, and once more
-- on the console when it has become another: dofile("@PROGRAM@"). The database is looked at every second by itself.
local DATABASE = "@DATABASE@"
local NETWORKS = "@NETWORKS@"
-- Kinds of places, in the order in which they are asked for; `other` is everywhere else.
local KINDS = { "@KINDS@" }
-- How many labels a name has at least, and whether there are names that are meant without what is below them.
local LABELS, SOME_ALONE = @LABELS@, @SOME_ALONE@
-- Who may say by EDNS Client Subnet for whom they ask.
local TRUSTED = { "@TRUSTED@" }

if not (KeyValueStoreLookupRule and newCDBKVStore and LuaFFIAction and LuaFFIResponseAction) then
  error("cdnblock: this dnsdist is built without CDB or without LuaJIT")
end
local ffi, bit = require("ffi"), require("bit")
local byte, char, find, sub = string.byte, string.char, string.find, string.sub
local C = ffi.C

local HEADER, OPT, CLIENT_SUBNET, EXTENDED_ERROR, CENSORED = 12, 41, 8, 15, 16
local FORMERR, REFUSED, BADVERS = 1, 5, 16
local SMALLEST_UDP, LARGEST, UDP_SIZE = 512, 65535, 1232
local TTL, SOA = @TTL@, "@SOA@"

-- Each run has its own tags and rules, so that those of the run before hold until these do.
cdnblock_run = (cdnblock_run or 0) + 1
local PLACE, GROUP, ANSWERS = "cdnblock place " .. cdnblock_run, "cdnblock group " .. cdnblock_run, "cdnblock answers " .. cdnblock_run
local HAS_OPT, OTHER = "cdnblock has opt", "other"

-- A query, read as far as an answer needs it; text positions count from 1.

local function number_at(text, at)
  local high, low = byte(text, at, at + 1)
  if not low then error("cut short") end
  return high * 256 + low
end

local function in_two(number)
  return char(bit.rshift(number, 8), bit.band(number, 255))
end

local function after_name(text, at)
  while true do
    local length = byte(text, at) or error("cut short")
    if length == 0 then return at + 1 end
    if length >= 192 then return at + 2 end
    if length > 63 then error("no label") end
    at = at + length + 1
  end
end

local function piece(text, from, size)
  local found = sub(text, from, from + size - 1)
  if #found < size then error("cut short") end
  return found
end

-- Returns the option as it is echoed, with SCOPE 0 (RFC 7871 section 7.2.1), or raises an error (section 6).
local OCTETS = { [0] = 0, 4, 16 } -- of an address, by FAMILY
local function read_subnet(value)
  local family, source, scope = number_at(value, 1), byte(piece(value, 3, 2), 1, 2)
  local octets = OCTETS[family]
  if not octets or scope ~= 0 or source > octets * 8 or #value - 4 ~= math.ceil(source / 8) then error("no subnet") end
  if source % 8 ~= 0 and bit.band(byte(value, -1), bit.rshift(255, source % 8)) ~= 0 then error("no subnet") end
  return in_two(CLIENT_SUBNET) .. in_two(#value) .. value
end

-- Returns the client subnet as it is echoed, empty without one.
local function read_options(data)
  local echo, from = "", 1
  while from <= #data do
    local code, size = number_at(data, from), number_at(data, from + 2)
    local value = piece(data, from + 4, size)
    if code == CLIENT_SUBNET then
      if echo ~= "" then error("two subnets") end
      echo = read_subnet(value)
    end
    from = from + 4 + size
  end
  return echo
end

-- Returns what the OPT record says, nil without it. Raises an error where there are two, or one in a wrong place.
local function read_opt(text, at)
  local found
  local others = number_at(text, 7) + number_at(text, 9)
  for position = 1, others + number_at(text, 11) do
    local root = byte(text, at) == 0
    at = after_name(text, at)
    local kind, length = number_at(text, at), number_at(text, at + 8)
    local data = piece(text, at + 10, length)
    if kind == OPT then
      if found or position <= others or not root then error("no such place for OPT") end
      found = { size = number_at(text, at + 2), version = byte(text, at + 5), flags = byte(text, at + 6), echo = "", data = data }
    end
    at = at + 10 + length
  end
  return found
end

local function opt_record(edns, rcode, error_option)
  if not edns then return "" end
  local options = edns.echo .. error_option
  local dnssec_ok = bit.band(edns.flags, 128)
  return "\0" .. in_two(OPT) .. in_two(UDP_SIZE) .. char(bit.rshift(rcode, 4), 0, dnssec_ok, 0) .. in_two(#options) .. options
end

-- An answer without data. ARCOUNT stays 0: a dnsdist that finds OPT in an answer of ours replaces it by one without
-- options, so it is counted when it has done that.
local function message(query, question, rcode, soa, opt, truncated)
  local first, second = byte(query, 3, 4)
  local flags = char(
    128 + bit.band(first, 0x79) + (truncated and 2 or 0),
    128 + bit.band(second, 0x10) + bit.band(rcode, 15)
  )
  local counts = (question == "" and "\0\0" or "\0\1") .. "\0\0" .. (soa == "" and "\0\0" or "\0\1") .. "\0\0"
  return sub(query, 1, 2) .. flags .. counts .. question .. soa .. opt, opt ~= ""
end

-- Returns the whole answer, or what of it fits: without the error, then without AUTHORITY, OPT and question.
local function answer(query, limit, question, edns, rcode, soa, text)
  local said = text and in_two(EXTENDED_ERROR) .. in_two(2 + #text) .. in_two(CENSORED) .. text or ""
  local record = soa and "\192\12" .. in_two(6) .. in_two(1) .. "\0\0" .. in_two(TTL) .. in_two(#SOA) .. SOA or ""
  local opt = opt_record(edns, rcode, said)
  if HEADER + #question + #record + #opt <= limit then return message(query, question, rcode, record, opt) end
  opt = opt_record(edns, rcode, "")
  for _, parts in ipairs({ { question, record, opt }, { question, "", opt }, { question, "", "" } }) do
    if HEADER + #parts[1] + #parts[2] + #parts[3] <= limit then
      return message(query, parts[1], rcode, parts[2], parts[3], true)
    end
  end
  return message(query, "", rcode, "", "", true)
end

-- What dnsdist calls.

local function tag(dq, name)
  local value = C.dnsdist_ffi_dnsquestion_get_tag(dq, name)
  return value ~= nil and ffi.string(value) or ""
end

local function put(dq, octets, has_opt)
  C.dnsdist_ffi_dnsquestion_set_size(dq, #octets)
  ffi.copy(ffi.cast("void*", C.dnsdist_ffi_dnsquestion_get_header(dq)), octets, #octets)
  if has_opt then C.dnsdist_ffi_dnsquestion_set_tag(dq, HAS_OPT, "1") end
  return DNSAction.HeaderModify
end

local qname, qname_size = ffi.new("const char*[1]"), ffi.new("size_t[1]")

-- Returns the query and, of it, the question.
local function read_question(dq)
  C.dnsdist_ffi_dnsquestion_get_qname_raw(dq, qname, qname_size)
  local size = C.dnsdist_ffi_dnsquestion_get_size(dq)
  local query = ffi.string(ffi.cast("const char*", C.dnsdist_ffi_dnsquestion_get_header(dq)), size)
  return query, sub(query, HEADER + 1, HEADER + tonumber(qname_size[0]) + 4)
end

local function refuse(dq)
  local group, answers, place = tag(dq, GROUP), tag(dq, ANSWERS), tag(dq, PLACE)
  if group == "@FREE@" then return DNSAction.None end
  local _, from = find(answers, "\n" .. place .. " ", 1, true)
  if not from then
    -- A group that is told of and has nothing for this kind of place lets it through. One that is not told of went
    -- between two look-ups: whoever asks again gets one answer or the other.
    return answers == "" and DNSAction.ServFail or DNSAction.None
  end
  local rcode, soa, text = string.match(answers, "^(%d+) (%S+) ?([^\n]*)", from + 1)
  local query, question = read_question(dq)
  if number_at(query, 5) ~= 1 then return put(dq, message(query, "", FORMERR, "", "")) end
  local sound, edns = pcall(read_opt, query, HEADER + #question + 1)
  if not sound then return put(dq, message(query, question, FORMERR, "", "")) end
  local limit = LARGEST
  if not C.dnsdist_ffi_dnsquestion_get_tcp(dq) then limit = math.max(SMALLEST_UDP, edns and edns.size or 0) end
  if edns and edns.version ~= 0 then return put(dq, answer(query, limit, question, edns, BADVERS, false)) end
  if edns then
    local readable, echo = pcall(read_options, edns.data)
    if not readable then return put(dq, answer(query, limit, question, edns, FORMERR, false)) end
    edns.echo = echo
    if echo ~= "" then
      rcode, soa = REFUSED, "-" -- negative answers are cached for every network (RFC 7871 section 7.4)
    end
  end
  return put(dq, answer(query, limit, question, edns, tonumber(rcode), soa == "soa", text))
end

local function count_opt(dr)
  ffi.cast("uint8_t*", C.dnsdist_ffi_dnsquestion_get_header(dr))[11] = 1
  return DNSResponseAction.None
end

-- What the rules look at; what is not there is told before any rule is touched.

local function read_networks()
  local groups = {}
  for line in io.lines(NETWORKS) do
    local network, kind = string.match(line, "^(%S+) (%S+)$")
    if not network then error("cdnblock: " .. NETWORKS .. " is none of this program's") end
    groups[kind] = groups[kind] or newNMG()
    groups[kind]:addMask(network)
  end
  return groups
end

io.lines(DATABASE) -- an error that tells its name, unless it is there
local database = newCDBKVStore(DATABASE, 1)
if not database:reload() then return end -- the process of the console's user, which runs this too and looks nothing up
if database:lookup("@COMMENT@") == "" then error("cdnblock: " .. DATABASE .. " cannot be read") end
-- What stands in for it while it cannot be read, be it that somebody put something else in its place: what it was when
-- this ran, which is not looked at again. A record that every client's address leads to tells whether it can.
local FOREVER = 2147483647
local kept = newCDBKVStore(DATABASE, FOREVER)
local is_sound = KeyValueStoreLookupRule(database, KeyValueLookupKeySourceIP(0, 0))
local groups = read_networks()

-- Returns the address of a client subnet, nil where there is none or its client declined to tell.
local function subnet_address(dq)
  local query, question = read_question(dq)
  local edns = read_opt(query, HEADER + #question + 1)
  local echo = edns and edns.version == 0 and read_options(edns.data) or ""
  if echo == "" or byte(echo, 7) == 0 then return nil end
  local size = OCTETS[number_at(echo, 5)]
  local octets = sub(echo, 9) .. string.rep("\0", size - #echo + 8)
  if size == 4 then return newCA(string.format("%d.%d.%d.%d", byte(octets, 1, 4))) end
  return newCA((string.format(string.rep("%02x%02x:", 8), byte(octets, 1, 16)):sub(1, -2)))
end

local function place_by_subnet(dq)
  local sound, client = pcall(subnet_address, dq)
  if not sound or not client then return DNSAction.None end -- its own address decides
  local place = OTHER
  for number = #KINDS, 1, -1 do
    local kind = KINDS[number]
    if groups[kind] and groups[kind]:match(client) then place = kind end
  end
  C.dnsdist_ffi_dnsquestion_set_tag(dq, PLACE, place)
  return DNSAction.None
end

-- The rules, from the last to the first: each is put before all others.

local alone, with_all_below = KeyValueLookupKeyQName(false), KeyValueLookupKeySuffix(LABELS, true)

local function named_in(store)
  local below = KeyValueStoreLookupRule(store, with_all_below)
  return SOME_ALONE and OrRule({ KeyValueStoreLookupRule(store, alone), below }) or below
end

local is_named = OrRule({ named_in(database), AndRule({ NotRule(is_sound), named_in(kept) }) })
local mine = {}

local function first(rule, action)
  mine[#mine + 1] = "cdnblock " .. cdnblock_run .. "." .. #mine + 1
  addAction(rule, action, { name = mine[#mine] })
  mvRuleToTop()
end

first(TagRule(ANSWERS), LuaFFIAction(refuse))
for _, asked in ipairs({ { kept, NotRule(is_sound) }, { database, is_sound } }) do
  local store, is_asked = asked[1], asked[2]
  local is_alone = KeyValueStoreLookupRule(store, alone)
  first(AndRule({ TagRule(GROUP), is_asked }), KeyValueStoreLookupAction(store, KeyValueLookupKeyTag(GROUP), ANSWERS))
  first(AndRule({ TagRule(PLACE), is_asked, NotRule(is_alone) }), KeyValueStoreLookupAction(store, with_all_below, GROUP))
  first(AndRule({ TagRule(PLACE), is_asked, is_alone }), KeyValueStoreLookupAction(store, alone, GROUP))
end

local before = {} -- kinds of places that a client of the next is not in
for _, kind in ipairs(KINDS) do
  local conditions = { OpcodeRule(DNSOpcode.Query), NotRule(TagRule(PLACE)) }
  for _, rule in ipairs(before) do conditions[#conditions + 1] = NotRule(rule) end
  if groups[kind] then
    before[#before + 1] = NetmaskGroupRule(groups[kind], true, true)
    conditions[#conditions + 1] = before[#before]
  end
  conditions[#conditions + 1] = is_named
  -- A country may have no network in the table: nobody is there.
  if groups[kind] or kind == OTHER then first(AndRule(conditions), SetTagAction(PLACE, kind)) end
end

if #TRUSTED > 0 then
  local trusted = newNMG()
  for _, network in ipairs(TRUSTED) do trusted:addMask(network) end
  first(AndRule({ OpcodeRule(DNSOpcode.Query), NetmaskGroupRule(trusted), is_named }), LuaFFIAction(place_by_subnet))
end

if not cdnblock_rules then addSelfAnsweredResponseAction(TagRule(HAS_OPT), LuaFFIResponseAction(count_opt)) end
for _, name in ipairs(cdnblock_rules or {}) do rmRule(name) end
cdnblock_rules = mine
