// The little that htmx does not do: the clock beside the navigation, and a warning when nobody answers any more.
"use strict";
(function () {
  const lost = document.getElementById("lost");
  const asOf = document.getElementById("as-of");

  function isOurs(event) {
    return event.detail.elt && event.detail.elt.id === "live";
  }

  function silent(event) {
    if (isOurs(event) && !lost.textContent) {
      lost.textContent = lost.dataset.words + " " + asOf.textContent;
      document.body.classList.add("stale");
    }
  }

  document.body.addEventListener("htmx:afterRequest", function (event) {
    const request = event.detail.xhr;
    if (!isOurs(event) || !event.detail.successful) {
      return;
    }
    const now = request.getResponseHeader("X-Cdnblock-Now");
    if (now) {
      asOf.textContent = decodeURIComponent(now);
    }
    lost.textContent = "";
    document.body.classList.remove("stale");
  });
  document.body.addEventListener("htmx:sendError", silent);
  document.body.addEventListener("htmx:timeout", silent);
  document.body.addEventListener("htmx:responseError", function (event) {
    if (event.detail.xhr.status === 401) {
      window.location.assign("/login");
    } else {
      silent(event);
    }
  });
})();
