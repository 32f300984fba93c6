const [page] = performance.getEntriesByType("navigation");
const how = document.getElementById("how");
if (page && how) {
  const ms = Math.round(page.responseEnd - page.requestStart);
  how.textContent = `From question to last byte: ${ms} ms, ${page.transferSize} bytes on the wire.`;
}
