// pgjdbc as an agent's driver: prints what it saw, a line for each step.
//
//     java Tour        every step whose result does not depend on what stands between, in every query mode
//     java Tour SQL    one statement, which waits for a person

import java.io.StringReader;
import java.io.StringWriter;
import java.sql.*;
import java.util.Arrays;
import java.util.Properties;
import java.util.UUID;
import org.postgresql.PGConnection;
import org.postgresql.util.PSQLException;

public class Tour {
  interface Step {
    String run(Connection c) throws Exception;
  }

  static final String BUSY = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid()"
      + " AND datname = current_database() AND query LIKE '%jdbc cancels%'";

  static Connection connect(String... more) throws SQLException {
    Properties properties = new Properties();
    properties.setProperty("user", System.getenv("PGUSER"));
    properties.setProperty("password", System.getenv("PGPASSWORD"));
    for (int i = 0; i < more.length; i += 2) properties.setProperty(more[i], more[i + 1]);
    String where = "127.0.0.1:" + System.getenv("PGPORT") + "/" + System.getenv("PGDATABASE");
    return DriverManager.getConnection("jdbc:postgresql://" + where, properties);
  }

  static String rows(ResultSet result) throws SQLException {
    StringBuilder text = new StringBuilder();
    int count = result.getMetaData().getColumnCount();
    while (result.next()) {
      for (int i = 1; i <= count; i++) {
        Object value = result.getObject(i) instanceof byte[] bytes ? Arrays.toString(bytes) : result.getString(i);
        text.append(value).append(i < count ? "," : ";");
      }
    }
    return text.toString();
  }

  static String rows(Connection c, String sql) throws SQLException {
    try (Statement s = c.createStatement()) {
      return rows(s.executeQuery(sql));
    }
  }

  static void step(String name, Connection c, Step step) {
    String said;
    try {
      said = step.run(c);
    } catch (PSQLException e) {
      var report = e.getServerErrorMessage();
      String more = report == null ? "" : report.getDetail() + " " + report.getHint();
      said = e.getSQLState() + " " + e.getMessage() + " " + more;
    } catch (Exception e) {
      said = e.toString();
    }
    said = said.replace('\n', ' ');
    System.out.println(name + ": " + (said.length() > 1000 ? said.length() + " characters, " + said.hashCode() : said));
  }

  static String inTransaction(Connection c, Step step) throws Exception {
    c.setAutoCommit(false);
    try {
      return step.run(c);
    } finally {
      c.rollback();
      c.setAutoCommit(true);
    }
  }

  static String batch(Connection c, int from, int to) throws SQLException {
    try (PreparedStatement s = c.prepareStatement("INSERT INTO j VALUES (?, ?)")) {
      for (int i = from; i < to; i++) {
        s.setInt(1, i);
        s.setString(2, "row " + i);
        s.addBatch();
      }
      return Integer.toString(Arrays.stream(s.executeBatch()).sum());
    }
  }

  static void statements(String mode, Connection c) {
    step(mode + " select", c, it -> rows(it, "SELECT 1, 'ü', NULL"));
    step(mode + " values, prepared on the server after a while", c, it -> {
      PreparedStatement s = it.prepareStatement("SELECT ?::int + 1, ?::text");
      StringBuilder text = new StringBuilder();
      for (int i = 0; i < 8; i++) {
        s.setInt(1, i);
        s.setString(2, "x" + i);
        text.append(rows(s.executeQuery()));
      }
      return text.toString();
    });
    step(mode + " binary values", c, it -> {
      PreparedStatement s = it.prepareStatement("SELECT (?::bigint), (?::bytea), (?::timestamp), (?::uuid), (?::int[])");
      StringBuilder text = new StringBuilder();
      for (int i = 0; i < 7; i++) {
        s.setLong(1, 1L << 40);
        s.setBytes(2, new byte[] {0, 1, (byte) 255});
        s.setTimestamp(3, Timestamp.valueOf("2020-02-03 04:05:06"));
        s.setObject(4, new UUID(0, 1));
        s.setArray(5, it.createArrayOf("int4", new Object[] {1, 2}));
        text.append(rows(s.executeQuery()));
      }
      return text.toString();
    });
    step(mode + " several results", c, it -> {
      Statement s = it.createStatement();
      StringBuilder text = new StringBuilder();
      boolean isQuery = s.execute("SELECT 1; UPDATE j SET t = 'u' WHERE i < 3; SELECT 2");
      while (isQuery || s.getUpdateCount() >= 0) {
        text.append(isQuery ? rows(s.getResultSet()) : "updated " + s.getUpdateCount() + ";");
        isQuery = s.getMoreResults();
      }
      return text.toString();
    });
    step(mode + " a table that changes under a prepared statement", c, it -> {
      PreparedStatement s = it.prepareStatement("SELECT * FROM j WHERE i = ?");
      for (int i = 0; i < 7; i++) {
        s.setInt(1, i);
        s.executeQuery().close();
      }
      it.createStatement().execute("ALTER TABLE j ADD extra int");
      s.setInt(1, 1);
      String text = rows(s.executeQuery());
      it.createStatement().execute("ALTER TABLE j DROP extra");
      return text;
    });
    step(mode + " call", c, it -> {
      it.createStatement().execute("CREATE OR REPLACE FUNCTION twice(int) RETURNS int LANGUAGE sql AS 'SELECT $1 * 2'");
      CallableStatement s = it.prepareCall("{ ? = call twice(?) }");
      s.registerOutParameter(1, Types.INTEGER);
      s.setInt(2, 21);
      s.execute();
      return Integer.toString(s.getInt(1));
    });
    step(mode + " warnings", c, it -> {
      Statement s = it.createStatement();
      s.execute("DO $$BEGIN RAISE WARNING 'said'; END$$");
      return s.getWarnings().getMessage();
    });
    step(mode + " metadata", c, it -> rows(it.getMetaData().getColumns(null, "public", "j", null)));
  }

  static void batches(String mode, Connection c) {
    step(mode + " batch", c, it -> batch(it, 0, 3000));
    step(mode + " batch that fails", c, it -> batch(it, 2998, 3003));
    step(mode + " generated keys", c, it -> {
      PreparedStatement s = it.prepareStatement("INSERT INTO j VALUES (9000, 'g')", Statement.RETURN_GENERATED_KEYS);
      s.executeUpdate();
      return rows(s.getGeneratedKeys());
    });
    step(mode + " rewritten batch", c, it -> {
      try (Connection other = connect("preferQueryMode", mode, "reWriteBatchedInserts", "true")) {
        return batch(other, 20_000, 20_300);
      }
    });
  }

  static void transactions(String mode, Connection c) {
    step(mode + " cursor", c, outer -> inTransaction(outer, it -> {
      Statement s = it.createStatement();
      s.setFetchSize(70);
      return rows(s.executeQuery("SELECT * FROM j ORDER BY i"));
    }));
    step(mode + " two cursors in turn", c, outer -> inTransaction(outer, it -> {
      PreparedStatement one = it.prepareStatement("SELECT i FROM j WHERE i > ? ORDER BY i");
      PreparedStatement other = it.prepareStatement("SELECT t FROM j WHERE i > ? ORDER BY i");
      one.setFetchSize(3);
      other.setFetchSize(2);
      one.setInt(1, 2980);
      other.setInt(1, 2980);
      ResultSet a = one.executeQuery(), b = other.executeQuery();
      StringBuilder text = new StringBuilder();
      while (a.next() && b.next()) text.append(a.getInt(1)).append(b.getString(1));
      return text.toString();
    }));
    step(mode + " error in a transaction", c, outer -> inTransaction(outer, it -> {
      try {
        return rows(it, "SELECT 1/0");
      } catch (SQLException first) {
        return rows(it, "SELECT 1");
      }
    }));
    step(mode + " savepoint", c, outer -> inTransaction(outer, it -> {
      Savepoint before = it.setSavepoint("before");
      try {
        return rows(it, "SELEC");
      } catch (SQLException first) {
        it.rollback(before);
        return rows(it, "SELECT 5");
      }
    }));
    step(mode + " large object", c, outer -> inTransaction(outer, it -> {
      var objects = it.unwrap(PGConnection.class).getLargeObjectAPI();
      long id = objects.createLO();
      var object = objects.open(id);
      object.write(new byte[100_000]);
      object.seek(50);
      byte[] back = object.read(10);
      object.close();
      objects.delete(id);
      return Integer.toString(back.length);
    }));
  }

  static void copies(String mode, Connection c) throws SQLException {
    var copy = c.unwrap(PGConnection.class).getCopyAPI();
    StringBuilder lines = new StringBuilder();
    for (int i = 100_000; i < 130_000; i++) lines.append(i).append("\tcopied\n");
    step(mode + " copy in", c, it -> Long.toString(copy.copyIn("COPY j FROM STDIN", new StringReader(lines.toString()))));
    step(mode + " copy in that fails", c, it -> Long.toString(copy.copyIn("COPY j FROM STDIN", new StringReader("x\ty\n"))));
    step(mode + " copy out", c, it -> {
      StringWriter out = new StringWriter();
      return copy.copyOut("COPY (SELECT * FROM j ORDER BY i) TO STDOUT", out) + " " + out.toString().hashCode();
    });
  }

  static void ends(String mode, Connection c) {
    step(mode + " cancel", c, it -> {
      Statement s = it.createStatement();
      Thread canceller = new Thread(() -> {
        try (Connection other = connect()) {
          while (rows(other, BUSY).equals("0;")) Thread.onSpinWait();
          s.cancel();
        } catch (SQLException e) {
          System.out.println(e);
        }
      });
      canceller.start();
      try {
        return Boolean.toString(s.execute("SELECT /* jdbc cancels */ pg_sleep(20)"));
      } finally {
        canceller.join();
      }
    });
    step(mode + " time-out of its own", c, it -> {
      Statement s = it.createStatement();
      s.setQueryTimeout(1);
      return Boolean.toString(s.execute("SELECT pg_sleep(20)"));
    });
    step(mode + " notification", c, it -> {
      it.createStatement().execute("LISTEN j");
      try (Connection other = connect()) {
        other.createStatement().execute("NOTIFY j, 'said'");
      }
      var heard = it.unwrap(PGConnection.class).getNotifications(5000);
      return heard[0].getName() + heard[0].getParameter();
    });
    step(mode + " next", c, it -> rows(it, "SELECT 'next'"));
  }

  static void waits(String sql) throws SQLException {
    try (Connection c = connect()) {
      step("held", c, it -> {
        Statement s = it.createStatement();
        boolean isQuery = s.execute(sql);
        String result = isQuery ? rows(s.getResultSet()) : Integer.toString(s.getUpdateCount());
        return "said " + result + " after " + s.getWarnings();
      });
      step("next", c, it -> rows(it, "SELECT 'next'"));
    }
  }

  public static void main(String[] arguments) throws Exception {
    if (arguments.length > 0) {
      waits(arguments[0]);
      return;
    }
    for (String mode : new String[] {"simple", "extended", "extendedForPrepared", "extendedCacheEverything"}) {
      try (Connection c = connect("preferQueryMode", mode)) {
        c.createStatement().execute("DROP TABLE IF EXISTS j; CREATE TABLE j (i int PRIMARY KEY, t text)");
        batches(mode, c);
        statements(mode, c);
        transactions(mode, c);
        copies(mode, c);
        ends(mode, c);
      }
    }
    System.out.println("the end of the tour");
  }
}
